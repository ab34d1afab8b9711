#pragma once

// Code points of UTF-8 text, one step at a time. Broken bytes are stepped over the way the Unicode
// standard recommends and Rust's from_utf8_lossy does: each maximal broken part is one U+FFFD.

#include <cstdint>
#include <string>
#include <string_view>

namespace ashlar::text {

inline constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

enum class Utf8State : uint8_t {
  whole,   // a character
  broken,  // bytes that no continuation can make a character
  cut,     // the text ends inside what may yet become a character
};

struct Utf8Step {
  char32_t code;    // U+FFFD unless whole
  uint32_t length;  // bytes to step over, at least 1
  Utf8State state;
};

// The step at s[at]. REQUIRES at < s.size().
Utf8Step read_utf8(std::string_view s, size_t at);

// Where the character before s[at] begins. REQUIRES 0 < at <= s.size() and valid UTF-8.
size_t previous_utf8(std::string_view s, size_t at);

// REQUIRES a code point up to U+10FFFF.
void append_utf8(char32_t code, std::string* out);

}  // namespace ashlar::text
