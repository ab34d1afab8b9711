#include "text/byte_level.h"

#include <array>

#include "text/utf8.h"

namespace ashlar::text {
namespace {

constexpr bool stands_for_itself(int byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

struct Alphabet {
  std::array<char32_t, 256> character{};
  std::array<int16_t, 512> byte{};
};

constexpr Alphabet make_alphabet() {
  Alphabet alphabet;
  alphabet.byte.fill(-1);
  char32_t next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const char32_t code = stands_for_itself(byte) ? static_cast<char32_t>(byte) : next++;
    alphabet.character[static_cast<size_t>(byte)] = code;
    alphabet.byte[code] = static_cast<int16_t>(byte);
  }
  return alphabet;
}

constexpr Alphabet kAlphabet = make_alphabet();

}  // namespace

char32_t byte_character(uint8_t byte) { return kAlphabet.character[byte]; }

int character_byte(char32_t code) {
  return code < kAlphabet.byte.size() ? kAlphabet.byte[code] : -1;
}

std::optional<std::string> bytes_of_token(std::string_view token) {
  std::string bytes;
  bytes.reserve(token.size());
  for (size_t i = 0; i < token.size();) {
    const Utf8Step step = read_utf8(token, i);
    const int byte = character_byte(step.code);
    if (byte < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(byte));
    i += step.length;
  }
  return bytes;
}

}  // namespace ashlar::text
