#include "text/normalizer.h"

#include <gtest/gtest.h>

#include <chrono>
#include <random>

#include "text/onig_pattern.h"
#include "text/regex.h"
#include "text/utf8.h"

namespace ashlar::text {
namespace {

TEST(Nfc, ComposesAndOrdersMarks) {
  EXPECT_EQ(to_nfc("e\u0301"), "\u00e9");
  EXPECT_EQ(to_nfc("a\u0301\u0323"), "\u1ea1\u0301");  // the lower class goes first
  EXPECT_EQ(to_nfc("\u1100\u1161\u11a8"), "\uac01");
  EXPECT_EQ(to_nfc("\uac00\u11a7"), "\uac00\u11a7");  // U+11A7 is no trailing consonant
  EXPECT_EQ(to_nfc("\u212b"), "\u00c5");
  EXPECT_EQ(to_nfc("\u0958"), "\u0915\u093c");  // excluded from composition
  EXPECT_EQ(to_nfc(std::string_view("a\0b", 3)), std::string("a\0b", 3));
  EXPECT_EQ(to_nfc(""), "");
}

TEST(Nfc, IsIdempotent) {
  std::mt19937 random(1);
  const char32_t pool[] = {'a',    'e',    0x301,  0x323, 0x302, 0x1100, 0x1161,
                           0x11a7, 0x11a8, 0xac00, 0x915, 0x93c, 0x212b, 0x1f600};
  for (int round = 0; round < 500; ++round) {
    std::string text;
    for (size_t n = random() % 12; n > 0; --n) append_utf8(pool[random() % 14], &text);
    const std::string once = to_nfc(text);
    EXPECT_EQ(to_nfc(once), once);
  }
}

TEST(Nfc, ALongRunOfMarksIsNotQuadratic) {
  std::string text = "a";
  for (int i = 0; i < 200'000; ++i) text += i % 2 == 0 ? "\u0301" : "\u0323";
  const auto begin = std::chrono::steady_clock::now();
  const std::string composed = to_nfc(text);
  const std::chrono::duration<double> time = std::chrono::steady_clock::now() - begin;
  EXPECT_EQ(composed.substr(0, 3), "\u1ea1");
  EXPECT_LT(time.count(), 5);
}

std::vector<std::string> matches(std::string_view pattern, std::string_view text) {
  const auto regex = Regex::compile(pattern);
  EXPECT_TRUE(regex) << (regex ? "" : regex.error().text);
  Matcher matcher;
  std::vector<std::string> found;
  Span span;
  for (size_t from = 0; *matcher.find(*regex, text, from, &span); from = span.end) {
    found.emplace_back(text.substr(span.begin, span.end - span.begin));
  }
  return found;
}

using Texts = std::vector<std::string>;

TEST(Regex, SpaceIsUnicodeWhiteSpace) {
  EXPECT_EQ(matches("\\s+", "a\u0085\u00a0\u2003\u3000\u2028b"),
            (Texts{"\u0085\u00a0\u2003\u3000\u2028"}));
  // Neither the zero width space nor the vowel separator nor the information separators.
  EXPECT_EQ(matches("\\s", "\u200b\u180e\x1c\x1f\ufeff"), Texts{});
  EXPECT_EQ(matches("[^\\s]+", "a\u180e b"), (Texts{"a\u180e", "b"}));
  EXPECT_EQ(matches("\\S+", "a\u180e b"), (Texts{"a\u180e", "b"}));
}

TEST(Regex, LineEndsAndIntervalsAreOnigurumas) {
  EXPECT_EQ(matches(" +$", "a  \nb "), (Texts{"  ", " "}));
  EXPECT_EQ(matches("^b", "a\nb"), (Texts{"b"}));
  EXPECT_EQ(matches("\\d{1,2}+", "12345"), (Texts{"12345"}));  // repeated, not possessive
  EXPECT_EQ(matches("a\\u0062", "ab"), (Texts{"ab"}));
  EXPECT_EQ(matches("\\v", "\x0b\x0c\n"), (Texts{"\x0b"}));
}

TEST(Regex, ScriptsAreNotTheirExtensions) {
  EXPECT_EQ(matches("\\p{Han}", "\u4e00\u3001"), (Texts{"\u4e00"}));
}

TEST(Regex, LiteralsAreExact) {
  const std::string text = "a.*[x](y)|{z}^$\\ +?-#/";
  const auto regex = Regex::literal(text);
  ASSERT_TRUE(regex) << regex.error().text;
  Matcher matcher;
  Span span;
  ASSERT_TRUE(*matcher.find(*regex, "__" + text + "__", 0, &span));
  EXPECT_EQ(span, (Span{2, 2 + text.size()}));
}

TEST(Regex, GivesUpOnHostileBacktracking) {
  const auto regex = Regex::compile("(a+)+b");
  ASSERT_TRUE(regex);
  Matcher matcher;
  Span span;
  const auto found = matcher.find(*regex, std::string(40, 'a'), 0, &span);
  EXPECT_TRUE(!found ? found.error().code == Code::exhausted : !*found);
}

TEST(Utf8, StepsBackOverWholeCharacters) {
  const std::string text = "a\u00e9\u4e00\U0001F600";
  size_t at = text.size();
  std::vector<size_t> starts;
  while (at > 0) starts.push_back(at = previous_utf8(text, at));
  EXPECT_EQ(starts, (std::vector<size_t>{6, 3, 1, 0}));
}

}  // namespace
}  // namespace ashlar::text
