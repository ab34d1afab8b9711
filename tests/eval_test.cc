// ashlar eval: windows of a text, perplexity against score's losses, tables of configurations.

#include <fmt/format.h>

#include <random>

#include "checkpoint.h"
#include "cli/scoring.h"
#include "program.h"

namespace ashlar {
namespace {

const std::string kZoo = source_path("zoo/mimo-tiny");
const std::string kData = " --data " + source_path("zoo/eval.jsonl");

TEST(Windows, CountEveryTokenButTheFirstOnce) {
  std::mt19937 random(5);
  for (int round = 0; round < 300; ++round) {
    const auto n = static_cast<size_t>(random() % 200);
    const auto context = static_cast<int32_t>(2 + random() % 60);
    const auto stride = static_cast<int32_t>(1 + random() % static_cast<uint32_t>(context - 1));
    size_t counted = 1;
    for (const TextWindow& window : text_windows(n, context, stride)) {
      EXPECT_EQ(window.first_scored, counted);
      EXPECT_GT(window.first_scored, window.begin);
      EXPECT_LE(window.end - window.begin, static_cast<size_t>(context));
      if (window.begin > 0) {
        EXPECT_GE(counted - window.begin, static_cast<size_t>(context - stride));
      }
      counted = window.end;
    }
    if (n > 1) {
      EXPECT_EQ(counted, n);
    } else {
      EXPECT_TRUE(text_windows(n, context, stride).empty());
    }
  }
}

// Every token's loss, given what its window holds before it, one prompt at a time.
double loss_by_hand(Session& session, const std::vector<int32_t>& text, int32_t context,
                    int32_t stride) {
  double sum = 0;
  for (size_t t = 1; t < text.size(); ++t) {
    size_t begin = 0;
    while (t >= begin + static_cast<size_t>(context)) begin += static_cast<size_t>(stride);
    Request request{.max_tokens = 0, .want_prompt_nll = true};
    request.tokens.assign(text.begin() + static_cast<std::ptrdiff_t>(begin),
                          text.begin() + static_cast<std::ptrdiff_t>(t + 1));
    std::vector<Request> one;
    one.push_back(std::move(request));
    sum += run_all(*session.engine, std::move(one)).front().nll.back();
  }
  return sum;
}

TEST(Perplexity, IsTheMeanLossOfEveryTokenInItsWindow) {
  const Folder folder;
  std::mt19937 random(9);
  std::string lines;
  std::vector<std::vector<int32_t>> texts;
  for (const int n : {75, 1, 20, 33}) {
    std::vector<int32_t> text;
    for (int i = 0; i < n; ++i) text.push_back(static_cast<int32_t>(random() % 64));
    lines += fmt::format("{{\"tokens\": [{}]}}\n", fmt::join(text, ","));
    texts.push_back(std::move(text));
  }
  const TextFlags flags{.file = folder.write("t.jsonl", lines), .context = 20, .stride = 7};
  Queue<Event> sink;
  Session session = open_checkpoint({.model = "tests/goldens/models/mimo-gqa"});
  double sum = 0;
  for (const auto& text : texts) sum += loss_by_hand(session, text, 20, 7);
  session.engine->start();
  const auto loss = text_loss(session, flags, &sink);
  ASSERT_TRUE(loss) << loss.error().text;
  EXPECT_EQ(loss->n_tokens, 74 + 19 + 32);
  EXPECT_EQ(loss->n_texts, 4);
  EXPECT_DOUBLE_EQ(loss->sum, sum);
  EXPECT_DOUBLE_EQ(loss->perplexity(), std::exp(sum / 125));
}

TEST(Eval, OneConfigurationIsOneObject) {
  const Json json = ask("eval " + kZoo + kData + " --limit 3");
  ASSERT_TRUE(json.is_object());
  for (const char* key : {"n", "exact_match", "correct", "prompt_tokens", "generated_tokens",
                          "seconds", "tokens_per_s", "cache", "speculative"}) {
    EXPECT_NE(json.find(key), nullptr) << key;
  }
  EXPECT_EQ(json.find("perplexity"), nullptr);
  const Ran ran = ashlar("eval " + kZoo + kData + " --limit 3");
  EXPECT_TRUE(ran.out.starts_with("exact match 100.0 % (3 of 3); ")) << ran.out;
}

TEST(Eval, EveryCombinationIsARow) {
  const Json rows = ask("eval " + kZoo + kData +
                        " --limit 3 --kv-cache-dtype auto,fp8 --block-size 16,32 "
                        "--speculative-config none --speculative-config "
                        "'{\"method\": \"ngram\", \"num_speculative_tokens\": 3}'");
  ASSERT_EQ(rows.as_array().size(), 8u);
  std::vector<std::string> labels;
  for (const Json& row : rows.as_array()) {
    labels.push_back(row.find("label")->as_string());
    const bool fp8 = row.find("configuration")->find("kv_cache_dtype")->as_string() == "fp8";
    EXPECT_EQ(row.find("cache_bytes_per_token")->as_double(), fp8 ? 800 : 1600);
    const std::string draft = row.find("configuration")->find("speculative_config")->as_string();
    EXPECT_EQ(row.find("speculative")->is_null(), draft == "none");
  }
  EXPECT_EQ(labels[0], "cache auto, block 16");
  EXPECT_EQ(labels[1], "ngram 3 (2-4)");
  EXPECT_EQ(labels[7], "fp8, block 32, ngram 3 (2-4)");
}

TEST(Eval, RowsDifferFromTheFirstOrSayWhyNot) {
  const Folder folder;
  const std::string text = folder.write("text.txt", "Ann has 3 apples and buys 4 more apples.");
  // Scales that clip every K and V: the model must fall silent, or nothing here is measured.
  const std::string scale = R"({"k": 1e-5, "v": 1e-5})";
  const std::string clip = folder.write(
      "clip.json", fmt::format("{{\"layers\": [{0}, {0}, {0}, {0}, {0}, {0}]}}", scale));
  const std::string command = "eval " + kZoo + kData + " --limit 4 --max-tokens 64 --perplexity " +
                              text + " --row '--layout uniform' --row '--kv-scales " + clip +
                              "' --row '--kv-cache-dtype fp8 --kv-scales " + clip + "'";
  const Json rows = ask(command);
  ASSERT_EQ(rows.as_array().size(), 4u);
  const auto difference = [&](size_t row, const char* key) {
    return rows.as_array()[row].find("difference")->find(key)->as_double();
  };
  for (const char* key : {"exact_match_points", "answers", "mean_nll", "perplexity"}) {
    EXPECT_EQ(difference(0, key), 0) << key;
    EXPECT_EQ(difference(1, key), 0) << key;
  }
  const Json& refused = rows.as_array()[2];
  EXPECT_NE(refused.find("error")->as_string().find("use --kv-cache-dtype fp8"), std::string::npos);
  EXPECT_EQ(refused.find("n"), nullptr);
  EXPECT_EQ(difference(3, "exact_match_points"), -100);
  EXPECT_EQ(difference(3, "answers"), 4);
  EXPECT_GT(difference(3, "mean_nll"), 0.1);
  const Ran table = ashlar(command, "", "/dev/null");
  EXPECT_NE(table.out.find("-100.0      4"), std::string::npos) << table.out;
  EXPECT_NE(table.out.find("refused: --kv-scales"), std::string::npos) << table.out;
}

TEST(Eval, TablesFitATerminal) {
  const Ran ran =
      ashlar("eval " + kZoo + kData +
                 " --limit 1 --max-tokens 8 --dtype auto,float32 --layout arena,uniform "
                 "--attn-pack-size 1,2 --speculative-config none "
                 "--speculative-config '{\"method\": \"ngram\"}'",
             "", "/dev/null");
  EXPECT_EQ(ran.code, 0);
  EXPECT_GT(std::count(ran.out.begin(), ran.out.end(), '\n'), 16);
  for (size_t begin = 0; begin < ran.out.size();) {
    const size_t end = std::min(ran.out.find('\n', begin), ran.out.size());
    EXPECT_LE(end - begin, 80u) << ran.out.substr(begin, end - begin);
    begin = end + 1;
  }
}

TEST(Eval, BadFlagsNameFlagValueAndWhatIsAllowed) {
  const std::pair<const char*, const char*> kRefused[] = {
      {"", "give --data, --perplexity or both"},
      {"--perplexity /nowhere.txt", "/nowhere.txt: cannot open"},
      {"--perplexity x --context 64 --stride 64", "--stride 64: a token of a window of 64"},
      {"--perplexity x --kv-cache-dtype auto,int3", "int3 not in {auto,bfloat16"},
      {"--perplexity x --block-size 16,0", "--block-size"},
      {"--perplexity x --row '--layout ring'", "--layout: ring not in {arena,uniform}"},
      {"--perplexity x --row '--threads 2'", "--row \"--threads 2\": "},
      {"--perplexity x --attn-pack-size 2,1", "the first configuration"},
      {"--perplexity /dev/null", "no text has two tokens"},
  };
  for (const auto& [flags, says] : kRefused) {
    const Ran ran = ashlar("eval " + kZoo + " " + flags);
    EXPECT_EQ(ran.code, 2) << flags;
    EXPECT_NE(ran.out.find(says), std::string::npos) << flags << ": " << ran.out;
  }
}

}  // namespace
}  // namespace ashlar
