#include "text/utf8.h"

namespace ashlar::text {

Utf8Step read_utf8(std::string_view s, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(s[i]); };
  const unsigned char lead = byte(at);
  if (lead < 0x80) return {lead, 1, Utf8State::whole};
  if (lead < 0xC2 || lead > 0xF4) return {0xFFFD, 1, Utf8State::broken};
  const uint32_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  char32_t code = lead & (0x7F >> length);
  for (uint32_t i = 1; i < length; ++i) {
    if (at + i >= s.size()) return {0xFFFD, i, Utf8State::cut};
    const unsigned char next = byte(at + i);
    // The second byte's limits exclude overlong forms, surrogates and values above U+10FFFF.
    const unsigned char low = i > 1 ? 0x80 : lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    const unsigned char high = i > 1 ? 0xBF : lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    if (next < low || next > high) return {0xFFFD, i, Utf8State::broken};
    code = code << 6 | (next & 0x3F);
  }
  return {code, length, Utf8State::whole};
}

size_t previous_utf8(std::string_view s, size_t at) {
  do {
    --at;
  } while (at > 0 && (static_cast<unsigned char>(s[at]) & 0xC0) == 0x80);
  return at;
}

void append_utf8(char32_t code, std::string* out) {
  const auto put = [&](char32_t byte) { out->push_back(static_cast<char>(byte)); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xC0 | code >> 6);
    put(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    put(0xE0 | code >> 12);
    put(0x80 | (code >> 6 & 0x3F));
    put(0x80 | (code & 0x3F));
  } else {
    put(0xF0 | code >> 18);
    put(0x80 | (code >> 12 & 0x3F));
    put(0x80 | (code >> 6 & 0x3F));
    put(0x80 | (code & 0x3F));
  }
}

}  // namespace ashlar::text
