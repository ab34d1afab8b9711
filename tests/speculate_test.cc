// Speculation: a draft says what its golden says, and whatever is proposed, what a request gives is
// what it gives without, bit for bit.

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
  return fmt::format(R"({{"method": "dflash", "model": "{}-dflash", "num_speculative_tokens": {}}})",
                     source_path("zoo/" + model), n_tokens);
}

ModelFlags flags(const std::string& model, const std::string& speculation, int32_t chunk = 512) {
  return {.model = "zoo/" + model, .max_step_tokens = chunk, .speculative_config = speculation};
}

// Problems of the held-out set, as chats; odd ones sampled when `sampled`.
std::vector<Request> problems(const Session& session, int32_t first, int32_t n,
                              bool sampled = false, int32_t max_tokens = 96) {
  const auto text = read_file(source_path("zoo/eval.jsonl"));
  CHECK(text);
  std::vector<Request> list;
  size_t at = 0;
  for (int32_t i = 0; i < first + n; ++i) {
    const size_t end = text->find('\n', at);
    if (i >= first) {
      const auto json = parse_json(text->substr(at, end - at), "eval");
      const auto tokens = session.encode_chat(*json->find("messages"));
      Request request{.tokens = tokens->tokens, .marks = tokens->marks, .max_tokens = max_tokens};
      request.stop_tokens = session.stop_tokens;
      if (sampled) request.sampling = {.temperature = 0.9f, .top_p = 0.95f, .seed = 7u + i};
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
const std::vector<Outcome>& plain(const std::string& model, bool sampled) {
  static std::map<std::pair<std::string, bool>, std::vector<Outcome>> known;
  auto& outcomes = known[{model, sampled}];
  if (outcomes.empty()) {
    Session session = open_checkpoint(flags(model, ""));
    outcomes = run_all(*session.engine, problems(session, 0, 10, sampled));
  }
  return outcomes;
}

class Speculation : public testing::TestWithParam<const char*> {};

TEST_P(Speculation, GivesWhatTheModelGives) {
  const std::string model = GetParam();
  for (const bool sampled : {false, true}) {
    SCOPED_TRACE(sampled ? "sampled" : "greedy");
    Session session = open_checkpoint(flags(model, dflash(model)));
    session.engine->poison_freed_pages(true);
    expect_same(run_all(*session.engine, problems(session, 0, 10, sampled)), plain(model, sampled));
    EXPECT_GT(mean_accepted(*session.engine), sampled ? 2.0 : 4.0);
    // Once more, from cached prefixes: the draft's K and V are there, too.
    const int64_t cold = session.engine->stats().n_rounds;
    expect_same(run_all(*session.engine, problems(session, 0, 10, sampled)), plain(model, sampled));
    EXPECT_GT(session.engine->cache().stats().hit_tokens, 0);
    EXPECT_EQ(session.engine->stats().n_rounds, 2 * cold) << "warm drafts are cold drafts";
  }
}

TEST_P(Speculation, HoweverTheWorkIsCut) {
  const std::string model = GetParam();
  for (const int32_t chunk : {1, 7, 40}) {
    for (const int32_t n : {3, 7}) {
      SCOPED_TRACE(testing::Message() << "steps of " << chunk << ", " << n << " proposed");
      Session session = open_checkpoint(flags(model, dflash(model, n), chunk));
      std::vector<Request> list = problems(session, 0, 10);
      list.resize(3);
      std::vector<Outcome> reference(plain(model, false).begin(), plain(model, false).begin() + 3);
      expect_same(run_all(*session.engine, std::move(list)), reference);
      EXPECT_EQ(session.engine->stats().n_rounds > 0, chunk > 1);
    }
  }
}

// Where the reference puts rows of two shapes into one group, running is refused.
TEST_P(Speculation, InUniformBlocksToo) {
  const std::string model = GetParam();
  ModelFlags uniform = flags(model, dflash(model), 64);
  uniform.layout = "uniform";
  uniform.memory = "64MiB";
  uniform.model = source_path(uniform.model);
  auto session = open_session(uniform, best_isa());
  if (!session) {
    EXPECT_EQ(session.error().code, Code::unsupported);
    EXPECT_EQ(model, "mimo-tiny") << session.error().text;
    return;
  }
  session->engine->poison_freed_pages(true);
  expect_same(run_all(*session->engine, problems(*session, 0, 10)), plain(model, false));
  EXPECT_GT(mean_accepted(*session->engine), 4.0);
}

// Room for about three: sequences lose their pages and come back, proposals wait for free ones.
TEST_P(Speculation, PreemptedIsStraight) {
  const std::string model = GetParam();
  Session open = open_checkpoint(flags(model, dflash(model)));
  const Cache& cache = open.engine->cache();
  int64_t bytes = 0;
  for (size_t g = 0; g < cache.groups().size(); ++g) {
    const int64_t pages =
        most_pages(cache.groups()[g], 110,
                   {.step_tokens = 32, .slack_tokens = 7, .state_slots = 8});
    bytes += pages * cache.arena().layout().groups[g].page_bytes;
  }
  ModelFlags small = flags(model, dflash(model), 32);
  small.memory = fmt::format("{}", 3 * bytes + 2 * cache.arena().layout().slab_bytes);
  for (const bool sampled : {false, true}) {
    Session session = open_checkpoint(small);
    session.engine->poison_freed_pages(true);
    expect_same(run_all(*session.engine, problems(session, 0, 10, sampled)),
                plain(model, sampled));
    EXPECT_GT(session.engine->stats().n_rounds, 0);
  }
}

TEST_P(Speculation, TextLookedUp) {
  const std::string model = GetParam();
  for (const bool sampled : {false, true}) {
    Session session = open_checkpoint(flags(model, kNgram));
    session.engine->poison_freed_pages(true);
    expect_same(run_all(*session.engine, problems(session, 0, 10, sampled)), plain(model, sampled));
    EXPECT_GT(session.engine->stats().n_drafted, 0);
    EXPECT_GT(mean_accepted(*session.engine), 1.2);
  }
}

// Scores and last logits are asked of prompts, whatever is proposed after them.
TEST_P(Speculation, ScoresStayScores) {
  const std::string model = GetParam();
  const auto scored = [&](const std::string& speculation) {
    Session session = open_checkpoint(flags(model, speculation, 48));
    std::vector<Request> list = problems(session, 20, 3);
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
    auto created = Model::create(std::move(spec), *std::move(weights), cpu_ops(best_isa()),
                                 {.compute = DType::f32, .taps = std::move(taps)},
                                 std::move(caches));
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
  for (const Json& golden : json.find("blocks")->as_array()) {
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
        worst = std::max(worst, std::abs(out[static_cast<size_t>(proposed)] -
                                         at("logits", i).as_double()));
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

}  // namespace
}  // namespace ashlar
