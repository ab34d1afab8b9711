#include "text/tokenizer.h"

#include <chrono>
#include <random>

#include "text/detokenizer.h"
#include "text/testing.h"

namespace ashlar::text {
namespace {

using Pairs = std::vector<std::pair<std::string, std::string>>;
const Pairs kPairs = {{"l", "l"}, {"a", "b"},   {"ab", "ab"}, {"b", "a"},
                      {"h", "e"}, {"he", "ll"}, {"c", "ab"},  {"abab", "c"}};

Tokenizer make(const Json::Object& json) {
  auto tokenizer = Tokenizer::from_json(Json(json).dump(), "test");
  EXPECT_TRUE(tokenizer) << (tokenizer ? "" : tokenizer.error().text);
  return *std::move(tokenizer);
}

std::string refusal(const Json::Object& json, Code code = Code::unsupported) {
  const auto tokenizer = Tokenizer::from_json(Json(json).dump(), "test");
  EXPECT_FALSE(tokenizer);
  if (tokenizer) return "";
  EXPECT_EQ(tokenizer.error().code, code) << tokenizer.error().text;
  return tokenizer.error().text;
}

Json added(int id, const char* content, bool special) {
  return Json::Object{{"id", id}, {"content", content}, {"special", special}};
}

// Merges by scanning for the best pair again and again: the definition.
std::vector<int32_t> merged_by_definition(const Pairs& pairs, std::string_view text) {
  std::vector<std::string> parts;
  for (const char c : text) parts.emplace_back(1, c);
  while (true) {
    size_t best_rank = pairs.size(), best_at = 0;
    for (size_t i = 0; i + 1 < parts.size(); ++i) {
      for (size_t rank = 0; rank < best_rank; ++rank) {
        if (pairs[rank].first == parts[i] && pairs[rank].second == parts[i + 1]) {
          best_rank = rank;
          best_at = i;
        }
      }
    }
    if (best_rank == pairs.size()) break;
    parts[best_at] += parts[best_at + 1];
    parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(best_at) + 1);
  }
  std::vector<int32_t> ids;
  for (const std::string& part : parts) {
    int32_t id = static_cast<unsigned char>(part[0]);
    for (size_t rank = 0; rank < pairs.size(); ++rank) {
      if (pairs[rank].first + pairs[rank].second == part) id = 256 + static_cast<int32_t>(rank);
    }
    ids.push_back(id);
  }
  return ids;
}

TEST(Bpe, MergesAsItsDefinition) {
  const Tokenizer tokenizer = make(tiny_tokenizer(kPairs));
  std::mt19937 random(1);
  for (int round = 0; round < 2000; ++round) {
    std::string text;
    for (size_t n = random() % 24; n > 0; --n) text += "abchel"[random() % 6];
    EXPECT_EQ(*tokenizer.encode(text), merged_by_definition(kPairs, text)) << text;
  }
}

TEST(Bpe, OneLongWordIsNotQuadratic) {
  const Tokenizer tokenizer = make(tiny_tokenizer(kPairs));
  std::string word;
  while (word.size() < 1'000'000) word += "abababcabahell";
  const auto begin = std::chrono::steady_clock::now();
  const auto tokens = tokenizer.encode(word);
  const std::chrono::duration<double> time = std::chrono::steady_clock::now() - begin;
  ASSERT_TRUE(tokens);
  EXPECT_EQ(*tokenizer.decode(*tokens), word);
  EXPECT_LT(time.count(), 10) << "a quadratic algorithm takes hours";
}

TEST(Bpe, BothSpellingsOfMergesAreOne) {
  Json::Object joined = tiny_tokenizer(kPairs);
  for (Json& merge : member_of(member_of(joined, "model").as_object(), "merges").as_array()) {
    merge = Json(merge.as_array()[0].as_string() + " " + merge.as_array()[1].as_string());
  }
  const Tokenizer one = make(tiny_tokenizer(kPairs)), other = make(joined);
  for (const char* text : {"hello", "ababcabab", "cab hell"}) {
    EXPECT_EQ(*one.encode(text), *other.encode(text));
  }
}

TEST(Tokenizer, RefusesTextThatIsNotUtf8WithTheOffset) {
  const auto tokens = make(tiny_tokenizer(kPairs)).encode("ab\xC3");
  ASSERT_FALSE(tokens);
  EXPECT_EQ(tokens.error().code, Code::invalid);
  EXPECT_EQ(tokens.error().text, "text is not UTF-8 at byte 2 (0xc3)");
}

TEST(Tokenizer, RefusesIdsThatAreNoTokens) {
  Json::Object json = tiny_tokenizer(kPairs);
  member_of(json, "added_tokens") = Json::Array{added(300, "<s>", true)};  // 264 to 299 are holes
  const Tokenizer tokenizer = make(json);
  EXPECT_EQ(tokenizer.vocab_size(), 301);
  for (const int32_t id : {-1, 264, 299, 301, 1 << 30}) {
    EXPECT_FALSE(tokenizer.decode(std::vector<int32_t>{id})) << id;
    Detokenizer detokenizer(tokenizer);
    EXPECT_FALSE(detokenizer.push(id));
    EXPECT_EQ(detokenizer.finish(), "");
  }
  EXPECT_EQ(*tokenizer.decode(std::vector<int32_t>{300}), "<s>");
  EXPECT_EQ(*tokenizer.find("<s>"), 300);
  EXPECT_TRUE(tokenizer.is_special(300));
  EXPECT_FALSE(tokenizer.find("nothing"));
}

TEST(Tokenizer, SpecialTokensInTextAreTextWhenAsked) {
  Json::Object json = tiny_tokenizer(kPairs);
  member_of(json, "added_tokens") =
      Json::Array{added(300, "<s>", true), added(301, "<tool>", false)};
  const Tokenizer tokenizer = make(json);
  EXPECT_EQ(*tokenizer.encode("<s>"), (std::vector<int32_t>{300}));
  EXPECT_EQ(*tokenizer.encode("<s>", {.parse_special = false}),
            (std::vector<int32_t>{'<', 's', '>'}));
  // Added tokens that are not special are vocabulary like any other.
  EXPECT_EQ(*tokenizer.encode("<tool>", {.parse_special = false}), (std::vector<int32_t>{301}));
}

TEST(Tokenizer, RefusesWhatItDoesNotDo) {
  const auto with = [](std::string_view key, Json value) {
    Json::Object json = tiny_tokenizer(kPairs);
    member_of(json, key) = std::move(value);
    return json;
  };
  const auto with_model = [](std::string_view key, Json value) {
    Json::Object json = tiny_tokenizer(kPairs);
    member_of(member_of(json, "model").as_object(), key) = std::move(value);
    return json;
  };
  const auto type = [](const char* name) { return Json(Json::Object{{"type", name}}); };
  EXPECT_EQ(
      refusal(with("normalizer", type("Lowercase"))),
      "test: tokenizer: normalizer.type \"Lowercase\" is not supported; known: NFC, Sequence");
  refusal(with("pre_tokenizer", type("Metaspace")));
  refusal(with("pre_tokenizer", nullptr));
  refusal(with("decoder", type("WordPiece")));
  refusal(with("post_processor", type("BertProcessing")));
  refusal(with("something_new", 1));
  refusal(with_model("type", "Unigram"));
  refusal(with_model("byte_fallback", true));
  refusal(with_model("dropout", 0.1));
  refusal(with_model("continuing_subword_prefix", "##"));
  refusal(with_model("something_new", 1));
  refusal(with_model("merges", Json::Array{Json("a b c")}), Code::invalid);
  refusal(with_model("merges", Json::Array{Json("q zz")}), Code::invalid);
  refusal(with_model("vocab", Json::Object{{"a", 0}}));
  const auto split = [](const char* behavior, Json pattern) {
    return Json(Json::Object{{"type", "Split"},
                             {"pattern", std::move(pattern)},
                             {"behavior", behavior},
                             {"invert", false}});
  };
  const auto regex = [](const char* text) { return Json(Json::Object{{"Regex", text}}); };
  refusal(with("pre_tokenizer", split("Sideways", regex("a"))));
  refusal(with("pre_tokenizer", split("Isolated", Json(Json::Object{{"Glob", "a"}}))));
  refusal(with("pre_tokenizer", split("Isolated", regex("[a&&[b]]"))));
  refusal(with("pre_tokenizer", split("Isolated", regex("(?<name>a)"))));
  refusal(with("pre_tokenizer", split("Isolated", regex("\\bword"))));
  refusal(with("pre_tokenizer", split("Isolated", regex("a**)("))), Code::unsupported);
}

TEST(Tokenizer, RefusesContradictions) {
  Json::Object json = tiny_tokenizer(kPairs);
  member_of(json, "added_tokens") = Json::Array{added(5, "<s>", true)};
  refusal(json, Code::invalid);  // 5 is a byte
  member_of(json, "added_tokens") = Json::Array{added(300, "ll", true)};
  refusal(json, Code::invalid);  // "ll" is 256
  member_of(json, "added_tokens") = Json::Array{added(256, "ll", true)};
  EXPECT_TRUE(make(json).is_special(256));
}

TEST(Tokenizer, LoadsACheckpointFolder) {
  EXPECT_TRUE(Tokenizer::load(std::string(ASHLAR_SOURCE_DIR) + "/zoo/mimo-tiny"));
  const auto missing = Tokenizer::load("/nowhere");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, Code::not_found);
}

// The replacement of broken bytes that Rust and the Unicode standard agree on.
TEST(Detokenizer, ReplacesMaximalBrokenParts) {
  const Tokenizer tokenizer = make(tiny_tokenizer(kPairs));
  const std::string r(kReplacement);
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"a\xC3\xA9", "a\xC3\xA9"},
      {"\xE2\x82", r},
      {"\xE2\x82z", r + "z"},
      {"\xF0\x9F\x98", r},
      {"\xF0\x9F\xC3\xA9", r + "\xC3\xA9"},
      {"\xC0\x80", r + r},
      {"\xE0\x80\x80", r + r + r},
      {"\xED\xA0\x80", r + r + r},
      {"\xF4\x90\x80\x80", r + r + r + r},
      {"\xF0\x80\x80\x41", r + r + r + "A"},
      {"\x80\xBF", r + r},
      {"\xFF\xFE", r + r},
      {"\xF1\x80\x80\xE1\x80\xC2z\x80", r + r + r + "z" + r},
  };
  for (const auto& [bytes, expected] : cases) {
    std::vector<int32_t> ids;
    for (const char c : bytes) ids.push_back(static_cast<unsigned char>(c));
    EXPECT_EQ(*tokenizer.decode(ids), expected);
    Detokenizer detokenizer(tokenizer);
    for (int round = 0; round < 2; ++round) {  // as new after finish()
      std::string text;
      for (const int32_t id : ids) text += *detokenizer.push(id);
      EXPECT_EQ(text + detokenizer.finish(), expected);
    }
  }
}

}  // namespace
}  // namespace ashlar::text
