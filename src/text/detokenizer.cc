#include "text/detokenizer.h"

#include <utility>

#include "text/utf8.h"

namespace ashlar::text {

Result<std::string> Detokenizer::push(int32_t token) {
  TRY(const std::string_view bytes, tokenizer_->bytes(token));
  std::string out;
  if (skip_special_ && tokenizer_->is_special(token)) return out;
  pending_ += bytes;
  size_t i = 0;
  while (i < pending_.size()) {
    const Utf8Step step = read_utf8(pending_, i);
    if (step.state == Utf8State::cut) break;
    out += step.state == Utf8State::whole ? std::string_view(pending_).substr(i, step.length)
                                          : kReplacement;
    i += step.length;
  }
  pending_.erase(0, i);
  return out;
}

std::string Detokenizer::finish() {
  return std::exchange(pending_, {}).empty() ? std::string() : std::string(kReplacement);
}

}  // namespace ashlar::text
