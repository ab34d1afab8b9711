// Every string and every template of the goldens, against what transformers made of it.

#include "text/testing.h"

#include <algorithm>
#include <random>

#include "text/detokenizer.h"
#include "text/template/chat_template.h"
#include "text/tokenizer.h"

namespace ashlar::text {
namespace {

std::vector<int32_t> ids_at(const Json& row, std::string_view key) {
  std::vector<int32_t> ids;
  for (const Json& id : row.find(key)->as_array()) ids.push_back(static_cast<int32_t>(id.as_int()));
  return ids;
}

// All pushes and finish(), which must agree with the pushes being whole characters.
std::string streamed(const Tokenizer& tokenizer, std::span<const int32_t> ids, bool skip_special) {
  Detokenizer detokenizer(tokenizer, skip_special);
  std::string text;
  for (const int32_t id : ids) {
    const auto piece = detokenizer.push(id);
    EXPECT_TRUE(piece);
    EXPECT_EQ(find_invalid_utf8(*piece), std::string::npos) << "half a character";
    text += *piece;
  }
  return text + detokenizer.finish();
}

struct Case {
  const char* lines;      // under tests/goldens/text
  const char* tokenizer;  // from the root
};

class TokenizerGoldens : public testing::TestWithParam<Case> {};

TEST_P(TokenizerGoldens, EncodesAndDecodesAsTransformers) {
  const std::string path = std::string(ASHLAR_SOURCE_DIR) + "/" + GetParam().tokenizer;
  const auto file = read_file(path);
  ASSERT_TRUE(file) << file.error().text;
  const auto tokenizer = Tokenizer::from_json(*file, path);
  ASSERT_TRUE(tokenizer) << tokenizer.error().text;
  for (const Json& row : read_lines(kGoldens + GetParam().lines)) {
    const std::string& text = row.find("text")->as_string();
    const auto ids = tokenizer->encode(text, {.add_special_tokens = false});
    const auto special = tokenizer->encode(text);
    ASSERT_TRUE(ids && special) << row.dump();
    EXPECT_EQ(*ids, ids_at(row, "ids")) << row.dump();
    EXPECT_EQ(*special, ids_at(row, "ids_special")) << row.dump();
    const auto golden = ids_at(row, "ids_special");
    for (const bool skip : {false, true}) {
      const std::string& expected = row.find(skip ? "decoded_skip" : "decoded")->as_string();
      const auto decoded = tokenizer->decode(golden, skip);
      ASSERT_TRUE(decoded);
      EXPECT_EQ(*decoded, expected) << row.dump();
      EXPECT_EQ(streamed(*tokenizer, golden, skip), expected) << row.dump();
    }
  }
}

TEST_P(TokenizerGoldens, StreamingDecodesAnyIdsAsTheWhole) {
  const auto file = read_file(std::string(ASHLAR_SOURCE_DIR) + "/" + GetParam().tokenizer);
  ASSERT_TRUE(file) << file.error().text;
  const auto tokenizer = Tokenizer::from_json(*file, "tokenizer");
  ASSERT_TRUE(tokenizer) << tokenizer.error().text;
  std::mt19937 random(1);
  for (int round = 0; round < 300; ++round) {
    std::vector<int32_t> ids;
    while (ids.size() < 1 + random() % 40) {
      // Low ids are single bytes, most of which are no characters alone.
      const uint32_t limit =
          random() % 2 == 0 ? 256 : static_cast<uint32_t>(tokenizer->vocab_size());
      const auto id = static_cast<int32_t>(random() % limit);
      if (tokenizer->bytes(id)) ids.push_back(id);
    }
    for (const bool skip : {false, true}) {
      EXPECT_EQ(streamed(*tokenizer, ids, skip), *tokenizer->decode(ids, skip));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, TokenizerGoldens,
    testing::Values(Case{"tokenizer.jsonl", "zoo/mimo-tiny/tokenizer.json"},
                    Case{"deepseek.jsonl", "tests/goldens/text/tokenizers/deepseek.json"},
                    Case{"flags.jsonl", "tests/goldens/text/tokenizers/flags.json"},
                    Case{"gpt2.jsonl", "tests/goldens/text/tokenizers/gpt2.json"},
                    Case{"gpt2-prefix.jsonl", "tests/goldens/text/tokenizers/gpt2-prefix.json"},
                    Case{"llama3.jsonl", "tests/goldens/text/tokenizers/llama3.json"},
                    Case{"qwen35.jsonl", "tests/goldens/text/tokenizers/qwen35.json"}),
    [](const auto& info) {
      std::string name = info.param.lines;
      name.resize(name.find('.'));
      std::replace(name.begin(), name.end(), '-', '_');
      return name;
    });

TEST(TemplateGoldens, RenderAsTransformers) {
  int n_refused = 0;
  for (const Json& row : read_lines(kGoldens + "template.jsonl")) {
    const auto parsed = ChatTemplate::parse(row.find("template")->as_string());
    const bool fails = row.find("error")->as_bool();
    const Result<Rendered> text = parsed ? parsed->render(*row.find("context")) : parsed.error();
    if (fails) {
      EXPECT_FALSE(text) << row.dump();
    } else if (!text) {
      // What chats do not use may be missing, if it is refused as such.
      const bool refused = row.find("rare") && text.error().code == Code::unsupported;
      EXPECT_TRUE(refused) << text.error().text << "\n" << row.dump();
      n_refused += refused ? 1 : 0;
    } else {
      EXPECT_EQ(text->text, row.find("output")->as_string()) << row.dump();
    }
  }
  EXPECT_LE(n_refused, 2);  // integers over 64 bits
}

}  // namespace
}  // namespace ashlar::text
