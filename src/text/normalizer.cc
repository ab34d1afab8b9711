#include "text/normalizer.h"

#include <utf8proc.h>

#include <algorithm>
#include <vector>

#include "text/schema.h"
#include "text/utf8.h"

namespace ashlar::text {
namespace {

int combining_class(utf8proc_int32_t code) { return utf8proc_get_property(code)->combining_class; }

// Canonical decomposition of the whole text, marks of each run in canonical order.
std::vector<utf8proc_int32_t> decompose(std::string_view text) {
  std::vector<utf8proc_int32_t> codes;
  codes.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const Utf8Step step = read_utf8(text, i);
    i += step.length;
    utf8proc_int32_t parts[8];
    int boundary = 0;
    const auto n = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(step.code), parts, 8,
                                           UTF8PROC_DECOMPOSE, &boundary);
    CHECK(n > 0 && n <= 8, "decomposing U+{:04X} gave {}", static_cast<uint32_t>(step.code), n);
    codes.insert(codes.end(), parts, parts + n);
  }
  for (auto begin = codes.begin(); begin != codes.end();) {
    const auto is_mark = [](utf8proc_int32_t code) { return combining_class(code) != 0; };
    begin = std::find_if(begin, codes.end(), is_mark);
    const auto end = std::find_if_not(begin, codes.end(), is_mark);
    std::stable_sort(begin, end, [](utf8proc_int32_t a, utf8proc_int32_t b) {
      return combining_class(a) < combining_class(b);
    });
    begin = end;
  }
  return codes;
}

}  // namespace

std::string to_nfc(std::string_view text) {
  std::vector<utf8proc_int32_t> codes = decompose(text);
  std::string out;
  out.reserve(text.size());
  // utf8proc 2.8 takes U+11A7, the code before the first trailing consonant, for one and drops it.
  // It composes with nothing, so the text is composed in the stretches between.
  for (auto begin = codes.begin(); begin != codes.end();) {
    const auto end = std::find(begin, codes.end(), 0x11A7);
    const auto n = utf8proc_normalize_utf32(
        &*begin, end - begin, static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
    CHECK(n >= 0, "composing {} code points failed: {}", end - begin, n);
    for (auto code = begin; code != begin + n; ++code) {
      append_utf8(static_cast<char32_t>(*code), &out);
    }
    if (end != codes.end()) append_utf8(0x11A7, &out);
    begin = end == codes.end() ? end : end + 1;
  }
  return out;
}

Result<Normalizer> Normalizer::from_json(const Json& json) {
  Normalizer normalizer;
  if (json.is_null()) return normalizer;
  TRY(const std::string type, type_of(json, "normalizer"));
  if (type == "NFC") {
    TRY_STATUS(only_keys(json, "normalizer", {"type"}));
    normalizer.nfc_ = true;
    return normalizer;
  }
  if (type != "Sequence") return unknown_type("normalizer", type, "NFC, Sequence");
  TRY_STATUS(only_keys(json, "normalizer", {"type", "normalizers"}));
  TRY(const Json::Array* parts, array_at(json, "normalizer", "normalizers"));
  for (const Json& part : *parts) {
    TRY(const Normalizer inner, from_json(part));
    normalizer.nfc_ = normalizer.nfc_ || inner.nfc_;
  }
  return normalizer;
}

bool Normalizer::changes(std::string_view text) const {
  return nfc_ && std::any_of(text.begin(), text.end(),
                             [](char c) { return static_cast<unsigned char>(c) >= 0x80; });
}

}  // namespace ashlar::text
