// A cache of 8-bit floats, seen through whole models: the laws hold bit for bit, answers stay, and
// scales come from where they should.

#include <filesystem>
#include <fstream>
#include <mutex>

#include "base/log.h"
#include "checkpoint.h"
#include "weights/testing.h"

namespace ashlar {
namespace {

constexpr const char* kZoo[] = {"zoo/mimo-tiny", "zoo/deepseek-tiny", "zoo/qwen-tiny"};
constexpr int32_t kGenerated = 4;

// Prompts of 1 to 91 tokens, ids that every model here has.
std::vector<Request> requests() {
  std::vector<Request> list(4);
  uint64_t state = 7;
  for (size_t i = 0; i < list.size(); ++i) {
    for (size_t t = 0; t < 1 + 30 * i; ++t) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      list[i].tokens.push_back(static_cast<int32_t>((state >> 33) % 60));
    }
    list[i].max_tokens = kGenerated;
    list[i].want_last_logits = true;
    list[i].want_prompt_nll = i % 2 == 0;
  }
  return list;
}

std::vector<Outcome> outcomes(const ModelFlags& flags) {
  Session session = open_checkpoint(flags);
  session.engine->poison_freed_pages(true);
  std::vector<Outcome> all = run_all(*session.engine, requests());
  for (const Outcome& outcome : all) EXPECT_EQ(outcome.error, "");
  return all;
}

std::vector<Outcome> outcomes_alone(const ModelFlags& flags) {
  Session session = open_checkpoint(flags);
  std::vector<Outcome> all;
  for (Request& request : requests()) {
    std::vector<Request> one;
    one.push_back(std::move(request));
    all.push_back(run_all(*session.engine, std::move(one)).front());
  }
  return all;
}

bool same(const std::vector<Outcome>& a, const std::vector<Outcome>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const Outcome& x, const Outcome& y) { return x.same(y); });
}

struct Kept {
  const char* model;
  const char* dtype;
};
constexpr Kept kKept[] = {
    {kZoo[0], "fp8"},      {kZoo[0], "fp8_e5m2"},          {kZoo[0], "fp8_per_token_head"},
    {kZoo[1], "fp8_e4m3"}, {kZoo[1], "fp8_e5m2"},          {kZoo[1], "fp8_per_token_head"},
    {kZoo[2], "fp8"},      {kZoo[2], "fp8_per_token_head"}};

TEST(Fp8Cache, OneIsManyAndChunkedIsWhole) {
  for (const Kept& kept : kKept) {
    SCOPED_TRACE(testing::Message() << kept.model << " " << kept.dtype);
    ModelFlags flags{.model = kept.model, .kv_cache_dtype = kept.dtype};
    const std::vector<Outcome> alone = outcomes_alone(flags);
    EXPECT_TRUE(same(outcomes(flags), alone));
    flags.max_step_tokens = 7;
    flags.block_size = 4;
    EXPECT_TRUE(same(outcomes(flags), alone));
    flags.max_step_tokens = 64;
    flags.block_size = 32;
    flags.layout = "uniform";
    EXPECT_TRUE(same(outcomes(flags), alone));
  }
}

std::string final_answer(const std::string& text) {
  const size_t mark = text.rfind("####");
  if (mark == std::string::npos) return "";
  std::string rest = text.substr(mark + 4);
  rest = rest.substr(0, rest.find('\n'));
  std::erase(rest, ' ');
  return rest;
}

// How many of the first `n` problems are answered right.
int right_answers(const char* model, const char* dtype, size_t n) {
  Session session = open_checkpoint({.model = model, .kv_cache_dtype = dtype});
  std::ifstream file(source_path("zoo/eval.jsonl"));
  std::vector<Request> requests;
  std::vector<std::string> answers;
  for (std::string line; requests.size() < n && std::getline(file, line);) {
    const Json json = *parse_json(line, "line");
    const Json* messages = json.find("messages");
    const Json prompt =
        messages != nullptr
            ? *messages
            : Json(Json::Array{Json::Object{{"role", "user"}, {"content", *json.find("prompt")}}});
    auto encoded = session.encode_chat(prompt);
    requests.push_back({.tokens = std::move(encoded->tokens),
                        .marks = std::move(encoded->marks),
                        .max_tokens = 200,
                        .stop_tokens = session.stop_tokens});
    const Json& answer = *json.find("answer");
    answers.push_back(answer.is_string() ? answer.as_string() : answer.dump());
  }
  Queue<Event> events;
  for (size_t i = 0; i < n; ++i) {
    requests[i].id = RequestId{i};
    requests[i].sink = &events;
    session.engine->submit(std::move(requests[i]));
  }
  while (session.engine->step()) {
  }
  std::vector<std::vector<int32_t>> replies(n);
  for (const Event& event : events.take_all()) {
    if (event.token) replies[static_cast<size_t>(event.id)].push_back(*event.token);
  }
  int n_right = 0;
  for (size_t i = 0; i < n; ++i) {
    n_right += final_answer(*session.tokenizer->decode(replies[i], true)) == answers[i];
  }
  return n_right;
}

TEST(Fp8Cache, AnswersStay) {
  for (const char* model : kZoo) {
    SCOPED_TRACE(model);
    const int bf16 = right_answers(model, "bfloat16", 40);
    EXPECT_GE(bf16, 30);
    EXPECT_NEAR(right_answers(model, "fp8", 40), bf16, 1);
  }
}

int64_t token_bytes(const Session& session) {
  int64_t bytes = 0;
  for (const CacheGroup& group : session.engine->cache().groups()) bytes += group.token_bytes();
  return bytes;
}

TEST(Fp8Cache, HalfTheBytesHoldTwiceTheTokens) {
  const auto longest = [](const char* dtype) {
    const Session session =
        open_checkpoint({.model = kZoo[1], .kv_cache_dtype = dtype, .memory = "2MiB"});
    return std::pair(token_bytes(session), session.engine->cache().longest_sequence(512));
  };
  const auto [wide, few] = longest("bfloat16");
  const auto [narrow, many] = longest("fp8");
  EXPECT_EQ(wide, 2 * narrow);
  EXPECT_GE(many, few * 19 / 10);
}

TEST(Fp8Cache, SkippedLayersAreGroupsOfTheirOwn) {
  const Session session =
      open_checkpoint({.model = kZoo[0], .kv_cache_dtype = "fp8", .kv_skip_layers = {0, 1}});
  for (const CacheGroup& group : session.engine->cache().groups()) {
    const bool skipped = group.layers.front() <= 1;
    EXPECT_EQ(group.dtype, skipped ? DType::bf16 : DType::f8e4m3);
    for (const int32_t layer : group.layers) EXPECT_EQ(layer <= 1, skipped);
  }
  const ModelFlags skipping{.model = kZoo[0], .kv_cache_dtype = "fp8", .kv_skip_layers = {0, 1}};
  EXPECT_TRUE(same(outcomes(skipping), outcomes_alone(skipping)));
}

constexpr const char* kScaled = "tests/goldens/models/mimo-gqa";

// A copy of that checkpoint with one more file of tensors.
void copy_with(const Folder& folder, const TensorMap& more) {
  namespace fs = std::filesystem;
  fs::copy(source_path(kScaled) + "/config.json", folder.path() + "/config.json");
  fs::copy(source_path(kScaled) + "/model.safetensors", folder.path() + "/a.safetensors");
  folder.write("b.safetensors", file_of(more));
  Json::Object map;
  const auto file = TensorFile::open(folder.path() + "/a.safetensors");
  for (const TensorEntry& entry : file->entries()) map.emplace_back(entry.name, "a.safetensors");
  for (const auto& [name, tensor] : more) map.emplace_back(name, "b.safetensors");
  folder.write("model.safetensors.index.json",
               Json(Json::Object{{"weight_map", std::move(map)}}).dump());
}

// Every spelling a checkpoint may have, {K, V}, against the same numbers from a file.
TEST(Fp8Cache, ScalesComeFromTheCheckpointOrAFile) {
  const Json config = read_test_json(std::string(kScaled) + "/config.json");
  const int64_t n_layers = config.find("num_hidden_layers")->as_int();
  const Folder files;
  const auto file_with = [&](float k, float v) {
    Json::Array layers;
    for (int64_t i = 0; i < n_layers; ++i) {
      layers.push_back(Json::Object{{"k", static_cast<double>(k)}, {"v", static_cast<double>(v)}});
    }
    files.write("scales.json", Json(Json::Object{{"layers", std::move(layers)}}).dump());
    return files.path() + "/scales.json";
  };
  const float k = 0.01171875f, v = 0.0234375f;  // both numbers of bf16
  ModelFlags flags{.model = kScaled, .kv_cache_dtype = "fp8"};
  const std::vector<Outcome> unit = outcomes(flags);
  flags.kv_scales = file_with(k, v);
  const std::vector<Outcome> scaled = outcomes(flags);
  EXPECT_FALSE(same(unit, scaled));
  flags.kv_scales = file_with(k, k);
  const std::vector<Outcome> scaled_alike = outcomes(flags);

  const std::pair<const char*, const char*> spellings[] = {{"k_proj.k_scale", "v_proj.v_scale"},
                                                           {"k_scale", "v_scale"},
                                                           {"qkv_proj.k_scale", "qkv_proj.v_scale"},
                                                           {"k_cache.scale", "v_cache.scale"},
                                                           {"kv_scale", nullptr},
                                                           {"k_scale", nullptr}};
  for (const auto& [of_k, of_v] : spellings) {
    SCOPED_TRACE(of_k);
    TensorMap tensors;
    for (int64_t i = 0; i < n_layers; ++i) {
      const std::string layer = fmt::format("model.layers.{}.self_attn.", i);
      tensors[layer + of_k] = tensor_of("F32", {}, {k});
      if (of_v != nullptr) tensors[layer + of_v] = tensor_of("BF16", {1}, {v});
      tensors[layer + "q_scale"] = tensor_of("F32", {}, {1});
    }
    const Folder folder;
    copy_with(folder, tensors);
    const ModelFlags own{.model = folder.path(), .kv_cache_dtype = "fp8"};
    EXPECT_TRUE(same(outcomes(own), of_v != nullptr ? scaled : scaled_alike));
  }
}

TEST(Fp8Cache, ABadScaleIsNamed) {
  const std::string name = "model.layers.0.self_attn.k_scale";
  for (const TensorData& bad :
       {tensor_of("F32", {}, {0}), tensor_of("F32", {2}, {1, 1}), tensor_of("F32", {1}, {-1})}) {
    const Folder folder;
    copy_with(folder, {{name, bad}});
    const auto session = open_session(
        {.model = folder.path(), .kv_cache_dtype = "fp8", .memory = "8MiB"}, best_isa());
    ASSERT_FALSE(session);
    EXPECT_NE(session.error().text.find(name), std::string::npos) << session.error().text;
  }
}

TEST(Fp8Cache, RefusalsSayWhatToDo) {
  const Folder folder;
  folder.write("few.json", "{\"layers\": [{\"k\": 1, \"v\": 1}]}");
  folder.write("bad.json", "{\"scales\": 1}");
  struct Case {
    ModelFlags flags;
    const char* says;
  };
  const Case cases[] = {
      {{.model = kZoo[0], .kv_cache_dtype = "int4"}, "cache dtype \"int4\": known are"},
      {{.model = kZoo[0], .kv_cache_dtype = "fp8", .kv_skip_layers = {99}}, "99 is none"},
      {{.model = kZoo[2], .kv_cache_dtype = "fp8", .kv_skip_layers = {0}}, "keeps no tokens"},
      {{.model = kZoo[0], .kv_skip_layers = {0}}, "add --kv-cache-dtype fp8"},
      {{.model = kZoo[0], .kv_scales = "x.json"}, "use --kv-cache-dtype fp8"},
      {{.model = kZoo[0], .kv_cache_dtype = "fp8_per_token_head", .kv_scales = "x.json"},
       "finds its scales itself"},
      {{.model = kZoo[0], .kv_cache_dtype = "fp8", .kv_scales = folder.path() + "/few.json"},
       "1 layers, and the model has"},
      {{.model = kZoo[0], .kv_cache_dtype = "fp8", .kv_scales = folder.path() + "/bad.json"},
       "expected {\"layers\":"},
  };
  for (const Case& refused : cases) {
    ModelFlags flags = refused.flags;
    flags.model = source_path(flags.model);
    flags.memory = "8MiB";
    const auto session = open_session(flags, best_isa());
    ASSERT_FALSE(session) << refused.says;
    EXPECT_NE(session.error().text.find(refused.says), std::string::npos) << session.error().text;
  }
}

// One line, however many engines' steps follow; none where there are scales.
TEST(Fp8Cache, AnUnscaledCacheIsJudgedOnce) {
  std::mutex mutex;
  std::vector<std::string> lines;
  set_log_sink([&](LogLevel, const std::string& text) {
    const std::lock_guard lock(mutex);
    lines.push_back(text);
  });
  const auto told = [&](const ModelFlags& flags) {
    lines.clear();
    outcomes(flags);
    return lines;
  };
  const auto unscaled = told({.model = kZoo[0], .kv_cache_dtype = "fp8", .max_step_tokens = 64});
  const auto token_scaled = told({.model = kZoo[0], .kv_cache_dtype = "fp8_per_token_head"});
  const auto wide = told({.model = kZoo[0]});
  const auto drafted =
      told({.model = kZoo[2],
            .kv_cache_dtype = "fp8",
            .speculative_config =
                fmt::format(R"({{"method": "dflash", "model": "{}", "num_speculative_tokens": 3}})",
                            source_path("zoo/qwen-tiny-dflash"))});
  set_log_sink({});
  ASSERT_EQ(unscaled.size(), 1u);
  EXPECT_NE(unscaled[0].find("% of the first"), std::string::npos) << unscaled[0];
  EXPECT_NE(unscaled[0].find("window"), std::string::npos) << unscaled[0];
  EXPECT_TRUE(token_scaled.empty() && wide.empty());
  // The model's layers that attend, and its draft's.
  ASSERT_EQ(drafted.size(), 1u);
  double clipped = 100;
  float k[2] = {}, v[2] = {};
  ASSERT_EQ(std::sscanf(drafted[0].c_str(),
                        "the float8_e4m3 (up to 448) cache has no scales: %lf %% of the first %*d "
                        "tokens' values were clipped; largest K and V: full %f and %f, full %f and "
                        "%f;",
                        &clipped, &k[0], &v[0], &k[1], &v[1]),
            5)
      << drafted[0];
  EXPECT_LT(clipped, 1);
  for (const float largest : {k[0], v[0], k[1], v[1]}) EXPECT_GT(largest, 0.01f) << drafted[0];
}

}  // namespace
}  // namespace ashlar
