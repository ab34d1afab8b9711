#include "base/text.h"

#include <gtest/gtest.h>

namespace ashlar {
namespace {

TEST(Text, ParsesByteQuantities) {
  const auto parse = [](std::string_view text) {
    uint64_t bytes = 0;
    return parse_bytes(text, &bytes) ? static_cast<int64_t>(bytes) : -1;
  };
  EXPECT_EQ(parse("4096"), 4096);
  EXPECT_EQ(parse("60GiB"), 60LL << 30);
  EXPECT_EQ(parse("1.5k"), 1536);
  EXPECT_EQ(parse("2GB"), 2000000000);
  EXPECT_EQ(parse("3 MiB"), 3 << 20);
  for (const char* bad : {"", "x", "-1", "1q", "1GiBs", "nan", "1e40"})
    EXPECT_EQ(parse(bad), -1) << bad;
}

TEST(Text, FindsInvalidUtf8) {
  EXPECT_EQ(find_invalid_utf8("a\xc3\xa9\xf0\x9f\x98\x80"), std::string_view::npos);
  EXPECT_EQ(find_invalid_utf8("ab\x80"), 2u);
  EXPECT_EQ(find_invalid_utf8("\xc0\xaf"), 0u);          // overlong
  EXPECT_EQ(find_invalid_utf8("x\xed\xa0\x80"), 1u);     // surrogate
  EXPECT_EQ(find_invalid_utf8("\xf4\x90\x80\x80"), 0u);  // above U+10FFFF
  EXPECT_EQ(find_invalid_utf8("a\xe2\x82"), 1u);         // cut short
}

TEST(Text, ExcerptIsSafeToPrint) {
  EXPECT_EQ(excerpt("a\x1b[31m\xff\n"), "a\\x1b[31m\\xff\\n");
  EXPECT_EQ(excerpt("abcdef", 3), "abc...");
}

}  // namespace
}  // namespace ashlar
