#pragma once

// The byte alphabet of byte-level BPE: every byte has a printable character that stands for it in
// vocabularies. Bytes that print in Latin-1 stand for themselves; the others, in order, take the
// characters from U+0100 on (so a space is written U+0120).

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace ashlar::text {

// The character that stands for `byte`, and back (-1 when `code` stands for no byte).
char32_t byte_character(uint8_t byte);
int character_byte(char32_t code);

// The bytes a vocabulary string stands for; empty when some character is not of the alphabet.
std::optional<std::string> bytes_of_token(std::string_view token);

}  // namespace ashlar::text
