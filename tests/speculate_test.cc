// Speculation: a draft says what its golden says, and whatever is proposed, what a request gives is
// what it gives without, bit for bit.

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <numeric>

#include "checkpoint.h"
#include "cli/speculation.h"
#include "engine/layer_caches.h"

namespace ashlar {
namespace {

constexpr const char* kModels[] = {"mimo-tiny", "deepseek-tiny", "qwen-tiny"};
constexpr const char* kNgram =
    R"({"method": "ngram", "num_speculative_tokens": 5, "prompt_lookup_max": 4, "prompt_lookup_min": 1})";

std::string dflash(const std::string& model, int32_t n_tokens = 7) {
  return fmt::format(
      R"({{"method": "dflash", "model": "{}-dflash", "num_speculative_tokens": {}}})",
      source_path("zoo/" + model), n_tokens);
}

ModelFlags flags(const std::string& model, const std::string& speculation, int32_t chunk = 512) {
  return {.model = "zoo/" + model, .max_step_tokens = chunk, .speculative_config = speculation};
}

constexpr int32_t kFew = 6;

// How many problems tests look at, from the set's first on: a few, every other one sampled; or as
// many as ASHLAR_SPECULATE_PROBLEMS says, all greedy.
int32_t n_problems() {
  const char* text = std::getenv("ASHLAR_SPECULATE_PROBLEMS");
  return text == nullptr ? kFew : std::atoi(text);
}

// Problems of the held-out set, as chats.
std::vector<Request> problems(const Session& session, int32_t n, int32_t first = 0) {
  const auto text = read_file(source_path("zoo/eval.jsonl"));
  CHECK(text);
  std::vector<Request> list;
  size_t at = 0;
  for (int32_t i = 0; i < first + n; ++i) {
    const size_t end = text->find('\n', at);
    if (i >= first) {
      const auto json = parse_json(text->substr(at, end - at), "eval");
      auto prompt = session.encode_chat(*json->find("messages"));
      Request request{.tokens = std::move(prompt->tokens), .marks = std::move(prompt->marks)};
      request.max_tokens = n > kFew ? 256 : 96;
      request.stop_tokens = session.stop_tokens;
      if (i % 2 == 1 && n <= kFew)
        request.sampling = {.temperature = 0.9f, .top_p = 0.95f, .seed = static_cast<uint64_t>(i)};
      list.push_back(std::move(request));
    }
    at = end + 1;
  }
  return list;
}

void expect_same(const std::vector<Outcome>& ours, const std::vector<Outcome>& reference) {
  ASSERT_EQ(ours.size(), reference.size());
  for (size_t i = 0; i < ours.size(); ++i) {
    EXPECT_EQ(ours[i].error, "");
    EXPECT_TRUE(ours[i].same(reference[i])) << "request " << i;
  }
}

double mean_accepted(const Engine& engine) {
  const EngineStats& stats = engine.stats();
  const int64_t accepted =
      std::accumulate(stats.n_accepted.begin(), stats.n_accepted.end(), int64_t{0});
  return 1 + static_cast<double>(accepted) / static_cast<double>(stats.n_rounds);
}

// What a model gives without speculation.
const std::vector<Outcome>& plain(const std::string& model, int32_t n = kFew) {
  static std::map<std::pair<std::string, int32_t>, std::vector<Outcome>> known;
  std::vector<Outcome>& outcomes = known[{model, n}];
  if (outcomes.empty()) {
    Session session = open_checkpoint(flags(model, ""));
    outcomes = run_all(*session.engine, problems(session, n));
  }
  return outcomes;
}

class Speculation : public testing::TestWithParam<const char*> {};

// In both layouts, cold and from cached prefixes. `ctest -L long` asks it of the whole set.
TEST_P(Speculation, GivesWhatTheModelGives) {
  const std::string model = GetParam();
  const int32_t n = n_problems();
  for (const char* layout : {"arena", "uniform"}) {
    SCOPED_TRACE(layout);
    ModelFlags with_draft = flags(model, dflash(model));
    with_draft.layout = layout;
    with_draft.memory = n == kFew ? "64MiB" : "1GiB";  // all of them stay cached
    Session session = open_checkpoint(with_draft);
    session.engine->poison_freed_pages(true);
    expect_same(run_all(*session.engine, problems(session, n)), plain(model, n));
    EXPECT_GE(mean_accepted(*session.engine), 4.0);
    const int64_t cold = session.engine->stats().n_rounds;
    const int64_t hits = session.engine->cache().stats().hit_tokens;
    // Once more: the draft's K and V are there, too.
    expect_same(run_all(*session.engine, problems(session, n)), plain(model, n));
    // Blocks that hold a state are longer than most prompts.
    if (n > kFew || session.engine->cache().block_tokens() <= 32) {
      EXPECT_GT(session.engine->cache().stats().hit_tokens, hits);
    }
    EXPECT_GE(mean_accepted(*session.engine), 4.0);
    // Prompts that wait leave proposals fewer rows, and many do.
    if (n == kFew) {
      EXPECT_EQ(session.engine->stats().n_rounds, 2 * cold) << "warm drafts are cold drafts";
    }
    if (n == kFew) continue;
    fmt::print("{}, {}: {} problems twice, {} of their tokens found; {}", model, layout, n,
               session.engine->cache().stats().hit_tokens, speculation_text(*session.engine));
  }
}

TEST_P(Speculation, HoweverTheWorkIsCut) {
  const std::string model = GetParam();
  struct Cut {
    int32_t step_tokens, n_proposed;
  };
  for (const Cut& cut : {Cut{7, 7}, Cut{40, 3}}) {
    SCOPED_TRACE(testing::Message() << "steps of " << cut.step_tokens);
    Session session = open_checkpoint(flags(model, dflash(model, cut.n_proposed), cut.step_tokens));
    const std::vector<Outcome> reference(plain(model).begin(), plain(model).begin() + 2);
    expect_same(run_all(*session.engine, problems(session, 2)), reference);
    EXPECT_GT(session.engine->stats().n_rounds, 0);
  }
}

// Blocks of other lengths, several layers to a page, and no draft.
TEST_P(Speculation, InUniformBlocksToo) {
  const std::string model = GetParam();
  struct Blocks {
    std::string speculation;
    int32_t page_tokens, pack;
  };
  for (const Blocks& blocks :
       {Blocks{dflash(model), 48, 1}, Blocks{dflash(model), 16, 2}, Blocks{kNgram, 16, 1}}) {
    SCOPED_TRACE(testing::Message() << blocks.page_tokens << " tokens, packs of " << blocks.pack);
    ModelFlags uniform = flags(model, blocks.speculation, 64);
    uniform.layout = "uniform";
    uniform.block_size = blocks.page_tokens;
    uniform.pack = blocks.pack;
    Session session = open_checkpoint(uniform);
    session.engine->poison_freed_pages(true);
    expect_same(run_all(*session.engine, problems(session, kFew)), plain(model));
    EXPECT_GT(mean_accepted(*session.engine), blocks.speculation == kNgram ? 1.2 : 4.0);
  }
}

// Eight bits, one layer apart from the rest: rows of two types in one group where the layout puts
// them there, and a draft that keeps none of the target's choices of layers.
TEST_P(Speculation, OverAnEightBitCache) {
  const std::string model = GetParam();
  const auto outcomes = [&](const std::string& speculation, const char* layout) {
    ModelFlags small = flags(model, speculation);
    small.kv_cache_dtype = "fp8";
    small.kv_skip_layers = {3};
    small.layout = layout;
    Session session = open_checkpoint(small);
    return run_all(*session.engine, problems(session, 2));
  };
  const std::vector<Outcome> reference = outcomes("", "arena");
  expect_same(outcomes(dflash(model), "arena"), reference);
  expect_same(outcomes(dflash(model), "uniform"), reference);
}

// Room for about three: sequences lose their pages and come back, proposals wait for free ones.
TEST_P(Speculation, PreemptedIsStraight) {
  const std::string model = GetParam();
  const Session open = open_checkpoint(flags(model, dflash(model)));
  const Cache& cache = open.engine->cache();
  const StepShape shape{.step_tokens = 32, .slack_tokens = 7, .state_slots = 8};
  int64_t bytes = 0;
  for (size_t g = 0; g < cache.groups().size(); ++g) {
    bytes +=
        most_pages(cache.groups()[g], 110, shape) * cache.arena().layout().groups[g].page_bytes;
  }
  ModelFlags small = flags(model, dflash(model), 32);
  small.memory = fmt::format("{}", 3 * bytes + 2 * cache.arena().layout().slab_bytes);
  Session session = open_checkpoint(small);
  session.engine->poison_freed_pages(true);
  expect_same(run_all(*session.engine, problems(session, kFew)), plain(model));
  EXPECT_GT(session.engine->stats().n_rounds, 0);
}

TEST_P(Speculation, TextLookedUp) {
  const std::string model = GetParam();
  Session session = open_checkpoint(flags(model, kNgram));
  session.engine->poison_freed_pages(true);
  expect_same(run_all(*session.engine, problems(session, kFew)), plain(model));
  EXPECT_GT(session.engine->stats().n_drafted, 0);
  EXPECT_GT(mean_accepted(*session.engine), 1.2);
}

// A draft that is told how often to be right costs what it costs, and no answer changes.
TEST_P(Speculation, RehearsedIsStraight) {
  const std::string model = GetParam();
  Session session = open_checkpoint(flags(model, dflash(model)));
  Engine& engine = *session.engine;
  std::map<RequestId, std::vector<int32_t>> answers;
  for (size_t i = 0; i < kFew; ++i) answers[RequestId{i}] = plain(model)[i].tokens;
  const auto counts = [&](double acceptance) {
    const EngineStats before = engine.stats();
    engine.rehearse({.acceptance = acceptance, .answers = answers});
    expect_same(run_all(engine, problems(session, kFew)), plain(model));
    const auto n = [](const EngineStats& stats) {
      return std::accumulate(stats.n_accepted.begin(), stats.n_accepted.end(), int64_t{0});
    };
    return std::pair(engine.stats().n_drafted - before.n_drafted, n(engine.stats()) - n(before));
  };
  EXPECT_EQ(counts(0).second, 0);
  const auto [drafted, accepted] = counts(1);
  EXPECT_GT(drafted, 0);
  EXPECT_GT(accepted, drafted * 8 / 10) << "all but those behind an answer's end";
  EXPECT_GT(engine.stats().draft_seconds, 0);
  EXPECT_GT(engine.stats().model_seconds, 0);
}

// Scores and last logits are asked of prompts, whatever is proposed after them.
TEST_P(Speculation, ScoresStayScores) {
  const std::string model = GetParam();
  const auto scored = [&](const std::string& speculation) {
    Session session = open_checkpoint(flags(model, speculation, 48));
    std::vector<Request> list = problems(session, 2, 20);
    for (Request& request : list) request.want_prompt_nll = request.want_last_logits = true;
    return run_all(*session.engine, std::move(list));
  };
  expect_same(scored(dflash(model)), scored(""));
}

// A target and its draft in float32, and pages for one sequence.
struct Pair {
  Cache cache;
  Model target;
  Model draft;
  Pool pool{2};

  static Model model(const std::string& folder, ModelSpec spec, std::vector<int32_t> taps,
                     const Cache& cache, size_t first, Pool& pool) {
    auto weights = load_weights(folder, spec, weight_rows(spec), {.pool = &pool});
    CHECK(weights, "{}", weights ? "" : weights.error().text);
    std::vector<LayerCache> caches = layer_caches(cache, spec, first);
    auto created =
        Model::create(std::move(spec), *std::move(weights), cpu_ops(best_isa()),
                      {.compute = DType::f32, .taps = std::move(taps)}, std::move(caches));
    CHECK(created, "{}", created ? "" : created.error().text);
    return *std::move(created);
  }

  static Pair open(const std::string& name) {
    Pool pool(2);
    const std::string folder = "zoo/" + name;
    auto target = read_model_spec(read_test_json(folder + "/config.json"));
    auto draft = read_draft_spec(read_test_json(folder + "-dflash/config.json"), *target);
    CHECK(draft, "{}", draft ? "" : draft.error().text);
    for (LayerSpec& layer : target->layers) {
      if (auto* state = std::get_if<StateSpec>(&layer.mixer)) state->conv_dtype = DType::f32;
    }
    auto groups = cache_groups(*target, *draft, {.dtype = DType::f32});
    auto cache = Cache::create(*std::move(groups), 64 << 20);
    const size_t n_layers = target->layers.size();
    Model a = model(source_path(folder), *target, draft->draft->taps, *cache, 0, pool);
    Model b = model(source_path(folder + "-dflash"), *draft, {}, *cache, n_layers, pool);
    b.borrow_ends(a);
    return {.cache = *std::move(cache), .target = std::move(a), .draft = std::move(b)};
  }

  Step step(const Tables& tables, std::vector<int32_t> tokens, int32_t position) const {
    const auto n = static_cast<int32_t>(tokens.size());
    Step step{.tokens = std::move(tokens)};
    for (int32_t i = 0; i < n; ++i) step.positions.push_back(position + i);
    for (const auto& pages : tables.pages)
      step.groups.push_back({{.q_len = n, .kv_len = position + n, .pages = pages.data()}});
    return step;
  }
};

// transformers' numbers, teacher-forced: what a block at an anchor says from the context before it.
TEST_P(Speculation, DraftSaysWhatItsGoldenSays) {
  const std::string model = GetParam();
  const Json json =
      read_test_json(fmt::format("tests/goldens/models/{}-dflash.golden.json", model));
  Pair pair = Pair::open(model);
  const int32_t block = pair.draft.spec().draft->block_tokens;
  std::vector<std::pair<float, int32_t>> scratch;
  double worst = 0;
  for (size_t b = 0; b < 4; ++b) {
    const Json& golden = json.find("blocks")->as_array()[b];
    const std::vector<int32_t> tokens = ids_of(*golden.find("tokens"));
    const std::vector<int32_t> anchors = ids_of(*golden.find("anchors"));
    for (size_t a = 0; a < anchors.size(); ++a) {
      const int32_t anchor = anchors[a];
      Tables tables;
      CHECK(pair.cache.reserve(&tables, anchor + block));
      const Step context = pair.step(tables, {tokens.begin(), tokens.begin() + anchor}, 0);
      CHECK(pair.target.forward(context, pair.pool));
      pair.draft.write_context(context, pair.target.taps(anchor), pair.pool);
      std::vector<int32_t> row(static_cast<size_t>(block), pair.draft.spec().draft->mask_token);
      row[0] = tokens[static_cast<size_t>(anchor)];
      Step step = pair.step(tables, std::move(row), anchor);
      for (int32_t i = 1; i < block; ++i) step.logit_rows.push_back(i);
      const auto logits = pair.draft.forward(step, pair.pool);
      CHECK(logits);
      const auto at = [&](const char* key, int32_t i) -> const Json& {
        return golden.find(key)->as_array()[a].as_array()[static_cast<size_t>(i)];
      };
      for (int32_t i = 0; i + 1 < block; ++i) {
        const auto proposed = static_cast<int32_t>(at("proposed", i).as_int());
        const std::span<const float> out(logits->row<float>(i),
                                         static_cast<size_t>(pair.draft.spec().vocab));
        worst = std::max(
            worst, std::abs(out[static_cast<size_t>(proposed)] - at("logits", i).as_double()));
        if (at("margins", i).as_double() < 0.02) continue;
        EXPECT_EQ(sample(out, {}, 0, &scratch), proposed) << "anchor " << anchor << " slot " << i;
      }
      pair.cache.release(&tables);
    }
  }
  EXPECT_LE(worst, 1e-3);
}

INSTANTIATE_TEST_SUITE_P(Zoo, Speculation, testing::ValuesIn(kModels), [](const auto& info) {
  std::string name = info.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

// The config with one value changed; `inner` is of dflash_config.
Json with(const Json& config, const std::string& key, Json value, bool inner = false) {
  Json::Object out;
  for (const auto& [name, old] : config.as_object()) {
    if (inner && name == "dflash_config") {
      out.emplace_back(name, with(old, key, value));
    } else if (inner || name != key) {
      out.emplace_back(name, old);
    }
  }
  if (!inner) out.emplace_back(key, std::move(value));
  return out;
}

TEST(SpeculationRefused, ADraftOfAnotherModel) {
  const auto target = read_model_spec(read_test_json("zoo/mimo-tiny/config.json"));
  const Json good = read_test_json("zoo/mimo-tiny-dflash/config.json");
  ASSERT_TRUE(read_draft_spec(good, *target));
  const auto taps = [](int32_t tap) { return Json::Array{Json(0), Json(tap)}; };
  const std::pair<Json, const char*> cases[] = {
      {with(good, "hidden_size", 128), "hidden size 128, the target's is 256"},
      {with(good, "vocab_size", 1000), "a vocabulary of 1000 tokens, the target's has 1280"},
      {with(good, "target_layer_ids", taps(6), true), "layer 6: the target has layers 0 to 5"},
      {with(good, "target_layer_ids", taps(-1), true), "-1"},
      {with(good, "target_layer_ids", Json::Array{}, true), "target_layer_ids is empty"},
      {with(good, "mask_token_id", 1280, true), "mask_token_id 1280: the vocabulary has ids 0 to"},
      {with(good, "block_size", 128), "a window of 96 tokens: less than a block of 128"},
      {with(good, "block_size", 1), "block_size = 1"},
      {read_test_json("zoo/qwen-tiny/config.json"), "says nothing of blocks to propose"}};
  for (const auto& [config, part] : cases) {
    const auto draft = read_draft_spec(config, *target);
    ASSERT_FALSE(draft) << part;
    EXPECT_NE(draft.error().text.find(part), std::string::npos) << draft.error().text;
  }
}

TEST(SpeculationRefused, AFlagThatMakesNoSense) {
  const std::pair<std::string, const char*> cases[] = {
      {"{", "--speculative-config"},
      {"5", "expected an object"},
      {R"({"method": "eagle"})", "method"},
      {R"({"method": "dflash"})", "model is missing"},
      {R"({"method": "ngram", "model": "x"})", "model is not known"},
      {R"({"method": "ngram", "num_speculative_tokens": 0})", "num_speculative_tokens = 0"},
      {R"({"method": "ngram", "num_speculative_tokens": 65})",
       "num_speculative_tokens 65: at most"},
      {R"({"method": "ngram", "prompt_lookup_max": 2, "prompt_lookup_min": 3})",
       "prompt_lookup_min 3 exceeds prompt_lookup_max 2"},
      {dflash("mimo-tiny", 8),
       "num_speculative_tokens 8: the draft's blocks of 8 tokens propose at"},
      {dflash("none"), "none-dflash/config.json"}};
  for (const auto& [text, part] : cases) {
    ModelFlags bad = flags("mimo-tiny", text);
    bad.model = source_path(bad.model);
    const auto session = open_session(bad, best_isa());
    ASSERT_FALSE(session) << text;
    EXPECT_NE(session.error().text.find(part), std::string::npos) << session.error().text;
  }
}

TEST(SpeculationRefused, AMaskInAFileOfItsOwn) {
  const auto folder = std::filesystem::temp_directory_path() /
                      fmt::format("ashlar_mask_{}", static_cast<int>(::getpid()));
  std::filesystem::create_directories(folder);
  std::filesystem::copy(source_path("zoo/mimo-tiny-dflash/config.json"), folder / "config.json");
  std::ofstream(folder / "mask_embedding.pt") << "x";
  const auto target = read_model_spec(read_test_json("zoo/mimo-tiny/config.json"));
  const auto read = read_speculation(
      fmt::format(R"({{"method": "dflash", "model": "{}"}})", folder.string()), *target);
  std::filesystem::remove_all(folder);
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code, Code::unsupported);
  for (const char* part : {"mask_embedding.pt", "row 1279", "embed_tokens.weight"})
    EXPECT_NE(read.error().text.find(part), std::string::npos) << read.error().text;
}

std::vector<int32_t> found(std::vector<int32_t> tokens, const Proposals& options, int32_t n) {
  std::vector<int32_t> drafts;
  look_up(tokens, options, n, &drafts);
  return drafts;
}

TEST(LookUp, TheLongestEndAndItsLastOccurrence) {
  const Proposals options{.n_tokens = 3, .lookup_max = 3, .lookup_min = 2};
  using Ids = std::vector<int32_t>;
  EXPECT_EQ(found({1, 2, 3, 4, 5, 9, 1, 2}, options, 3), (Ids{3, 4, 5}));
  EXPECT_EQ(found({1, 2, 3, 1, 2, 4, 7, 1, 2}, options, 2), (Ids{4, 7})) << "the later one";
  EXPECT_EQ(found({8, 1, 2, 3, 1, 2, 4, 8, 1, 2}, options, 2), (Ids{3, 1})) << "the longer one";
  EXPECT_EQ(found({1, 2, 3, 4, 9, 2}, options, 3), Ids{}) << "one token is less than two";
  EXPECT_EQ(found({5, 6, 5, 6}, options, 3), (Ids{5, 6, 5})) << "the text repeats itself";
  EXPECT_EQ(found({7, 7, 7}, options, 3), (Ids{7, 7, 7}));
  EXPECT_EQ(found({7}, options, 3), Ids{});
  EXPECT_EQ(found({}, options, 3), Ids{});
}

TEST(LookUp, ProposalsTakeHalfOfWhatOthersNeed) {
  const std::vector<Demand> alone = {{.n_pending = 1, .running = true, .n_drafts = 7},
                                     {.n_pending = 1, .running = true, .n_drafts = 7}};
  const Budget budget{.step_tokens = 12, .chunk_tokens = 12, .max_running = 8, .logit_rows = 64};
  EXPECT_EQ(share_step(alone, budget), (std::vector<int32_t>{8, 4}));
  std::vector<Demand> shared = alone;
  shared.push_back({.n_pending = 100, .running = true});
  EXPECT_EQ(share_step(shared, budget), (std::vector<int32_t>{7, 1, 4}));
  Budget few = budget;
  few.logit_rows = 5;
  EXPECT_EQ(share_step(alone, few), (std::vector<int32_t>{4, 1}));
}

}  // namespace
}  // namespace ashlar
