#pragma once

// Detokenizer: the text of tokens as they come, for streaming. What it returns never ends inside a
// character; all of it together is exactly Tokenizer::decode of all the tokens.
//
// One per stream, one thread at a time; the tokenizer must outlive it.

#include <cstdint>
#include <string>

#include "base/result.h"
#include "text/tokenizer.h"

namespace ashlar::text {

class Detokenizer {
 public:
  explicit Detokenizer(const Tokenizer& tokenizer, bool skip_special = false)
      : tokenizer_(&tokenizer), skip_special_(skip_special) {}

  // The characters this token completes, often none. An id that is no token is invalid and changes
  // nothing.
  Result<std::string> push(int32_t token);

  // What is left: a character cut short becomes U+FFFD. The detokenizer is then as new.
  std::string finish();

 private:
  const Tokenizer* tokenizer_;
  bool skip_special_;
  std::string pending_;  // the beginning of a character, at most 3 bytes between calls
};

}  // namespace ashlar::text
