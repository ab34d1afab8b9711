// A tokenizer.json of any content: it loads or is refused; what loads encodes and decodes.

#include <string>

#include "text/detokenizer.h"
#include "text/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace ashlar;
  const std::string_view json(reinterpret_cast<const char*>(data), size);
  const auto tokenizer = text::Tokenizer::from_json(json, "fuzz");
  if (!tokenizer) return 0;
  const std::string sample = "Hello  world\n 123<s>\xC3\xA9\xF0\x9F\x98\x80 e\xCC\x81'll  ";
  const auto tokens = tokenizer->encode(sample);
  if (!tokens) return 0;
  const auto whole = tokenizer->decode(*tokens);
  CHECK(whole, "what encode makes, decode takes");
  text::Detokenizer detokenizer(*tokenizer);
  std::string streamed;
  for (const int32_t token : *tokens) streamed += *detokenizer.push(token);
  CHECK(streamed + detokenizer.finish() == *whole, "streaming is decoding");
  return 0;
}
