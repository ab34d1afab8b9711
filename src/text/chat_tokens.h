#pragma once

// A rendered conversation as tokens, and where among them its messages begin.

#include <cstdint>
#include <vector>

#include "text/template/chat_template.h"
#include "text/tokenizer.h"

namespace ashlar::text {

struct ChatTokens {
  std::vector<int32_t> tokens;
  // Token counts at which a message begins, ascending: hints of where other conversations branch
  // off. Where a boundary of the text falls inside a token, or a normalizer changes lengths, the
  // count is of the tokens before it.
  std::vector<int32_t> marks;
};

// Special tokens in the text are recognised and none added: a template writes them out. Errors:
// Tokenizer::encode's.
Result<ChatTokens> encode_chat(const Tokenizer& tokenizer, const Rendered& chat);

}  // namespace ashlar::text
