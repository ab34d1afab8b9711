#pragma once

// The chat trace (tools/traces/make_chat.py), and the tokens its lengths stand for: no two texts
// share a token run but those that the trace says share one.

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"

namespace ashlar::reuse {

struct Request {
  int32_t conversation = 0;
  int32_t n_prompt = 0;
  std::vector<int32_t> tokens;  // of the prompt, then of the answer
  std::vector<int32_t> marks;   // where the prompt's messages end

  int32_t n_tokens() const { return static_cast<int32_t>(tokens.size()); }
  // The last token of an answer is never computed.
  int32_t n_computed() const { return n_tokens() - 1; }
};

// In order of arrival. Errors name the line.
Result<std::vector<Request>> read_trace(const std::string& path);

// What of each prompt any earlier request computed, in whole pages and without its last token.
std::vector<int32_t> known_tokens(const std::vector<Request>& trace, int32_t page_tokens);

}  // namespace ashlar::reuse
