#include "text/chat_tokens.h"

namespace ashlar::text {

Result<ChatTokens> encode_chat(const Tokenizer& tokenizer, const Rendered& chat) {
  ChatTokens result;
  TRY(result.tokens,
      tokenizer.encode(chat.text, {.add_special_tokens = false, .parse_special = true}));
  size_t n_bytes = 0;  // of the tokens before
  auto boundary = chat.boundaries.begin();
  for (size_t i = 0; i < result.tokens.size(); ++i) {
    TRY(const std::string_view bytes, tokenizer.bytes(result.tokens[i]));
    n_bytes += bytes.size();
    const auto passed = boundary;
    while (boundary != chat.boundaries.end() && *boundary < n_bytes) ++boundary;
    if (passed != boundary && i > 0) result.marks.push_back(static_cast<int32_t>(i));
  }
  return result;
}

}  // namespace ashlar::text
