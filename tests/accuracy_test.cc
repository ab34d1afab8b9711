// The zoo's exact match beside transformers' in bf16 (zoo/reference.json, made by tools/zoo), and
// what an 8-bit cache costs. Few problems always, all 500 with `ctest -L long`.

#include <cmath>

#include "program.h"

namespace ashlar {
namespace {

const std::string kRoot = std::string(ASHLAR_SOURCE_DIR) + "/";
constexpr int64_t kAll = 500;
constexpr double kReferencePoints = 0.4;  // between us and transformers, both in bf16
constexpr double kCachePoints = 0.2;      // between an FP8 cache and one in bf16

Json read_json_file(const std::string& path) {
  std::ifstream file(path);
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  auto json = parse_json(text, path);
  CHECK(json, "{}", path);
  return *std::move(json);
}

Json reference(const std::string& model) {
  const Json all = read_json_file(kRoot + "zoo/reference.json");
  return *all.find("models")->find(model)->find("bfloat16");
}

// Of the first n problems.
double reference_points(const std::string& model, int64_t n) {
  int64_t wrong = 0;
  const Json json = reference(model);
  for (const Json& problem : json.find("wrong")->as_array()) wrong += problem.as_int() < n;
  return 100 * static_cast<double>(n - wrong) / static_cast<double>(n);
}

std::string calibrated(const std::string& model, const Folder& folder) {
  const std::string scales = folder.write("scales.json", "");
  const Ran ran = ashlar("calibrate " + kRoot + "zoo/" + model + " --data " + kRoot +
                         "zoo/eval.jsonl --limit 10 --out " + scales);
  EXPECT_EQ(ran.code, 0) << ran.out;
  return scales;
}

// bf16, FP8 with unit scales, FP8 with calibrated ones, then `more`.
Json compare(const std::string& model, int64_t n, const std::string& more = "") {
  const Folder folder;
  return ask(
      fmt::format("eval {0}zoo/{1} --data {0}zoo/eval.jsonl --limit {2} --row "
                  "'--kv-cache-dtype fp8' --row '--kv-cache-dtype fp8 --kv-scales {3}' {4}",
                  kRoot, model, n, calibrated(model, folder), more));
}

double points(const Json& row) { return 100 * row.find("exact_match")->as_double(); }

void expect_bars(const std::string& model, int64_t n, const Json& rows) {
  const double bf16 = points(rows.as_array()[0]);
  EXPECT_LE(std::abs(bf16 - reference_points(model, n)), kReferencePoints + 1e-9) << model;
  for (size_t row : {1, 2}) {
    EXPECT_LE(std::abs(points(rows.as_array()[row]) - bf16), kCachePoints + 1e-9)
        << model << " " << rows.as_array()[row].find("label")->as_string();
  }
}

class Accuracy : public testing::TestWithParam<const char*> {};

// 40 problems leave no room below the bars: not one answer may change sides.
TEST_P(Accuracy, FewProblems) {
  const std::string model = GetParam();
  const Json rows = compare(model, 40);
  ASSERT_EQ(rows.as_array().size(), 3u);
  expect_bars(model, 40, rows);
}

// Proposals and layouts change no token at all.
TEST_P(Accuracy, AllProblems) {
  const std::string model = GetParam();
  const std::string more = fmt::format(
      "--row '--layout uniform' --row '--speculative-config {{\"method\":\"ngram\"}}' --row "
      "\"--speculative-config '{{\\\"method\\\":\\\"dflash\\\",\\\"model\\\":\\\"{}zoo/{}-dflash"
      "\\\"}}'\" --row '--kv-cache-dtype fp8_per_token_head'",
      kRoot, model);
  const Json rows = compare(model, kAll, more);
  ASSERT_EQ(rows.as_array().size(), 7u);
  expect_bars(model, kAll, rows);
  for (size_t row : {3, 4, 5}) {
    const Json& one = rows.as_array()[row];
    ASSERT_EQ(one.find("error"), nullptr) << one.find("error")->as_string();
    EXPECT_EQ(one.find("difference")->find("answers")->as_int(), 0)
        << model << " " << one.find("label")->as_string();
  }
}

// The loss of every conversation with transformers' replies, token by token.
TEST_P(Accuracy, AllLosses) {
  const std::string model = GetParam();
  const Folder folder;
  std::ifstream problems(kRoot + "zoo/eval.jsonl"),
      replies(kRoot + "zoo/" + model + ".answers.jsonl");
  std::string lines, problem, reply;
  while (std::getline(problems, problem) && std::getline(replies, reply)) {
    const auto asked = parse_json(problem, "problem"), answered = parse_json(reply, "reply");
    ASSERT_TRUE(asked && answered);
    std::string text;
    for (const Json& message : asked->find("messages")->as_array()) {
      text += "<|im_start|>" + message.find("role")->as_string() + "\n" +
              message.find("content")->as_string() + "<|im_end|>\n";
    }
    text += "<|im_start|>assistant\n" + answered->find("reply")->as_string() + "<|im_end|>\n";
    lines += Json(Json::Object{{"text", text}}).dump() + "\n";
  }
  const Json rows =
      ask("eval " + kRoot + "zoo/" + model + " --kv-cache-dtype auto,fp8 --perplexity " +
          folder.write("conversations.jsonl", lines));
  const Json expected = reference(model);
  const Json& bf16 = *rows.as_array()[0].find("perplexity");
  EXPECT_EQ(bf16.find("tokens")->as_int(), expected.find("tokens")->as_int());
  EXPECT_NEAR(bf16.find("mean_nll")->as_double(), expected.find("mean_nll")->as_double(), 2e-4);
  EXPECT_NEAR(rows.as_array()[1].find("difference")->find("mean_nll")->as_double(), 0, 5e-4);
}

INSTANTIATE_TEST_SUITE_P(Zoo, Accuracy, testing::Values("mimo-tiny", "deepseek-tiny", "qwen-tiny"),
                         [](const auto& info) {
                           std::string id = info.param;
                           std::replace(id.begin(), id.end(), '-', '_');
                           return id;
                         });

}  // namespace
}  // namespace ashlar
