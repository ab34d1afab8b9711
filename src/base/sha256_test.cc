#include "base/sha256.h"

#include <gtest/gtest.h>

#include <string_view>

#include "base/text.h"

namespace ashlar {
namespace {

std::span<const std::byte> bytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

std::string hex(const Digest& digest) {
  std::string out;
  for (const std::byte b : digest) out += fmt::format("{:02x}", static_cast<int>(b));
  return out;
}

// The examples of FIPS 180-4.
TEST(Sha256, KnownAnswers) {
  Sha256 sha256;
  EXPECT_EQ(hex(sha256(bytes("abc"))),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(hex(sha256({})), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(
      hex(sha256(bytes("abcdbcdecdefdefgefghfghi"), bytes("ghijhijkijkljklmklmnlmnomnopnopq"))),
      "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

TEST(Sha256, PartsAreLaidEndToEnd) {
  Sha256 sha256;
  EXPECT_EQ(sha256(bytes("ab"), bytes("c")), sha256(bytes("abc")));
  Sha256 moved = std::move(sha256);
  EXPECT_EQ(moved(bytes("a"), bytes("bc")), moved(bytes("abc")));
}

}  // namespace
}  // namespace ashlar
