#pragma once

// Text for people: formatting ({fmt}) and the few ways this program prints quantities.

#include <fmt/core.h>

#include <cstdint>
#include <string>
#include <string_view>

namespace ashlar {

// 1536 -> "1.5 KiB"; exact below 1 KiB.
std::string human_bytes(uint64_t bytes);

// 0.0123 -> "12.3 ms".
std::string human_seconds(double seconds);

// "60GiB", "512MiB", "1.5G", "4096" -> bytes; powers of 1024 with or without the "iB", powers of
// 1000 with a bare "B" ("GB"). False when the text is no such quantity or exceeds 2^62.
bool parse_bytes(std::string_view text, uint64_t* bytes);

// Shortens untrusted text for an error message: at most `limit` bytes, control characters and
// invalid UTF-8 escaped, cut marked by an ellipsis.
std::string excerpt(std::string_view text, size_t limit = 60);

// Byte offset of the first byte that is not well-formed UTF-8 (overlong forms, surrogates and
// values above U+10FFFF included), or npos.
size_t find_invalid_utf8(std::string_view text);

}  // namespace ashlar
