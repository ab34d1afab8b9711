#pragma once

// The normaliser of a tokenizer.json: nothing, or Unicode NFC.

#include <string>
#include <string_view>

#include "base/json.h"
#include "base/result.h"

namespace ashlar::text {

// `text` in Normalization Form C. REQUIRES valid UTF-8. O(n log n) for any input: runs of combining
// marks are sorted, not bubbled.
std::string to_nfc(std::string_view text);

class Normalizer {
 public:
  // The file's "normalizer": null, NFC, or a Sequence of those. Others are unsupported.
  static Result<Normalizer> from_json(const Json& json);

  bool changes(std::string_view text) const;  // false when apply() surely returns the text as is
  std::string apply(std::string_view text) const { return nfc_ ? to_nfc(text) : std::string(text); }

 private:
  bool nfc_ = false;
};

}  // namespace ashlar::text
