// The laws of a request, bit for bit: what it gives does not depend on what shares its steps, how
// its prompt is cut, how large pages are, what lies between them, or whether its pages were taken
// on the way.

#include "checkpoint.h"

namespace ashlar {
namespace {

constexpr int32_t kGenerated = 12;

// One model for each way of remembering: windows beside full attention, latents, states. And two
// sizes of memory: in which prompts evict each other, and in which running sequences do.
struct LawModel {
  const char* name;
  const char* evicting;
  const char* preempting;
};

void PrintTo(const LawModel& model, std::ostream* out) { *out << model.name; }

class Laws : public testing::TestWithParam<LawModel> {
 protected:
  static ModelFlags flags(int32_t chunk, int32_t block_size) {
    return {.model = std::string("zoo/") + GetParam().name,
            .block_size = block_size,
            .max_step_tokens = chunk};
  }
  static const std::vector<Outcome>& alone();
  static void expect_same(const std::vector<Outcome>& outcomes);
};

INSTANTIATE_TEST_SUITE_P(Zoo, Laws,
                         testing::Values(LawModel{"mimo-tiny", "4MiB", "640KiB"},
                                         LawModel{"deepseek-tiny", "2MiB", "400KiB"},
                                         LawModel{"qwen-tiny", "4MiB", "2900KiB"}),
                         [](const auto& info) {
                           const std::string name = info.param.name;
                           return name.substr(0, name.find('-'));
                         });

// Sixteen prompts of many lengths: conversations first, then random tokens.
std::vector<Request> requests() {
  const Json json = read_test_json("tests/goldens/models/mimo-tiny.golden.json");
  std::vector<Request> list;
  uint64_t state = 1;
  for (const Json& prompt : json.find("prompts")->as_array()) {
    if (list.size() < 5) list.push_back({.tokens = ids_of(*prompt.find("tokens"))});
  }
  while (list.size() < 16) {
    Request request;
    for (size_t i = 0; i < 1 + 9 * list.size(); ++i) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      request.tokens.push_back(static_cast<int32_t>((state >> 33) % 1200));
    }
    list.push_back(std::move(request));
  }
  for (size_t i = 0; i < list.size(); ++i) {
    list[i].max_tokens = kGenerated;
    list[i].want_prompt_nll = i % 3 == 0;
    list[i].want_last_logits = true;
    if (i % 2 == 1)
      list[i].sampling = {.temperature = 0.8f, .top_k = 40, .top_p = 0.95f, .seed = i};
  }
  return list;
}

// Each request alone, whole prompt in one step, pages of 16.
const std::vector<Outcome>& Laws::alone() {
  static std::map<std::string, std::vector<Outcome>> by_model;
  std::vector<Outcome>& all = by_model[GetParam().name];
  if (!all.empty()) return all;
  Session session = open_checkpoint(flags(512, 16));
  for (Request& request : requests()) {
    std::vector<Request> one;
    one.push_back(std::move(request));
    all.push_back(run_all(*session.engine, std::move(one)).front());
  }
  return all;
}

void Laws::expect_same(const std::vector<Outcome>& outcomes) {
  ASSERT_EQ(outcomes.size(), alone().size());
  for (size_t i = 0; i < outcomes.size(); ++i) {
    EXPECT_EQ(outcomes[i].error, "");
    EXPECT_EQ(outcomes[i].tokens.size(), size_t{kGenerated});
    EXPECT_TRUE(outcomes[i].same(alone()[i])) << "request " << i;
  }
}

TEST_P(Laws, BatchOfOneIsBatchOfMany) {
  Session session = open_checkpoint(flags(512, 16));
  expect_same(run_all(*session.engine, requests()));
}

TEST_P(Laws, ChunkedPrefillIsWholePrefill) {
  for (const int32_t chunk : {1, 7, 64}) {
    SCOPED_TRACE(chunk);
    Session session = open_checkpoint(flags(chunk, 16));
    expect_same(run_all(*session.engine, requests()));
  }
}

TEST_P(Laws, PageSizeDoesNotMatter) {
  for (const int32_t block_size : {1, 64}) {
    SCOPED_TRACE(block_size);
    Session session = open_checkpoint(flags(512, block_size));
    expect_same(run_all(*session.engine, requests()));
  }
}

// Two rounds over poisoned pages: whatever the second round reads was written by it.
TEST_P(Laws, GarbageBetweenPagesIsNeverRead) {
  for (const int32_t block_size : {1, 16, 64}) {
    SCOPED_TRACE(block_size);
    ModelFlags small = flags(64, block_size);
    small.memory = "12MiB";
    Session session = open_checkpoint(small);
    session.engine->poison_freed_pages(true);
    expect_same(run_all(*session.engine, requests()));
    expect_same(run_all(*session.engine, requests()));
  }
}

// The second time a prompt is seen its pages are found, and what is computed from them is the same.
TEST_P(Laws, WarmIsCold) {
  Session session = open_checkpoint(flags(64, 16));
  session.engine->poison_freed_pages(true);
  expect_same(run_all(*session.engine, requests()));
  const std::vector<Outcome> warm = run_all(*session.engine, requests());
  expect_same(warm);
  int32_t n_cached = 0;
  for (size_t i = 0; i < warm.size(); ++i) {
    const int32_t n_prompt = warm[i].usage.prompt_tokens;
    n_cached += warm[i].usage.cached_tokens;
    if (i % 3 == 0) continue;  // scoring computes every row
    EXPECT_GE(warm[i].usage.cached_tokens, (n_prompt - 1) / 16 * 16) << i;
  }
  EXPECT_GT(n_cached, 0);
}

TEST_P(Laws, TwoSaltsNeverShare) {
  Session session = open_checkpoint(flags(64, 16));
  int n_runs = 0;
  for (const char* salt : {"one", "two", "one"}) {
    std::vector<Request> list = requests();
    list.erase(list.begin(), list.begin() + 14);
    list.resize(1);
    list.front().want_prompt_nll = false;
    list.front().salt = salt;
    const Outcome outcome = run_all(*session.engine, std::move(list)).front();
    EXPECT_EQ(outcome.usage.cached_tokens > 0, n_runs++ == 2) << salt;
  }
}

// Layouts the engine can run with: the flags that choose them.
struct LayoutFlags {
  const char* layout;
  int32_t pack;
  int32_t block_size;
};
constexpr LayoutFlags kUniform[] = {
    {"uniform", 1, 16}, {"uniform", 3, 32}, {"uniform", 2, 1}, {"uniform", 4, 16}};

ModelFlags with(ModelFlags flags, const LayoutFlags& layout, const char* memory) {
  flags.layout = layout.layout;
  flags.block_size = layout.block_size;
  flags.pack = layout.pack;
  flags.memory = memory;
  return flags;
}

// A pool of equal blocks, grown and padded, gives what the arena gives; from cached prefixes, and
// over poisoned pages when others' prefixes have been evicted.
TEST_P(Laws, LayoutDoesNotMatter) {
  int64_t n_evicted = 0, n_hit = 0;
  for (const LayoutFlags& layout : kUniform) {
    SCOPED_TRACE(testing::Message() << "pack " << layout.pack << " of " << layout.block_size);
    Session session = open_checkpoint(with(flags(64, 16), layout, GetParam().evicting));
    session.engine->poison_freed_pages(true);
    for (const char* salt : {"", "", "one", "two"}) {
      std::vector<Request> list = requests();
      for (Request& request : list) request.salt = salt;
      expect_same(run_all(*session.engine, std::move(list)));
    }
    n_evicted += session.engine->cache().stats().n_evicted;
    n_hit += session.engine->cache().stats().hit_tokens;
  }
  EXPECT_GT(n_evicted, 0);
  EXPECT_GT(n_hit, 0);
}

// Short prompts that all fit grow until they do not: the latest give their pages and are computed
// again.
TEST_P(Laws, PreemptedIsStraight) {
  const auto growing = [] {
    std::vector<Request> list = requests();
    list.resize(12);
    for (Request& request : list) {
      request.tokens.resize(std::min<size_t>(request.tokens.size(), 20));
      request.max_tokens = 40;
    }
    return list;
  };
  Session plenty = open_checkpoint(flags(64, 16));
  const std::vector<Outcome> straight = run_all(*plenty.engine, growing());
  EXPECT_EQ(plenty.engine->stats().n_preemptions, 0);
  std::vector<LayoutFlags> layouts(std::begin(kUniform), std::end(kUniform));
  layouts.push_back({"arena", 1, 16});
  for (const LayoutFlags& layout : layouts) {
    SCOPED_TRACE(testing::Message() << layout.layout << " " << layout.pack);
    Session session = open_checkpoint(with(flags(64, 16), layout, GetParam().preempting));
    session.engine->poison_freed_pages(true);
    const std::vector<Outcome> preempted = run_all(*session.engine, growing());
    // Blocks of states may be so long that nobody needs a second one.
    const bool coarse = session.engine->cache().block_tokens() > 40;
    EXPECT_TRUE(session.engine->stats().n_preemptions > 0 || coarse);
    for (size_t i = 0; i < straight.size(); ++i) {
      EXPECT_EQ(preempted[i].error, "");
      EXPECT_TRUE(preempted[i].same(straight[i])) << "request " << i;
    }
  }
}

// A conversation as tokens, with marks, and the assistant's turn opened.
Request chat(const Session& session,
             std::initializer_list<std::pair<const char*, std::string>> list) {
  Json::Array messages;
  for (const auto& [role, text] : list) {
    messages.push_back(Json::Object{{"role", role}, {"content", text}});
  }
  auto encoded = session.encode_chat(Json(std::move(messages)));
  CHECK(encoded, "{}", encoded ? "" : encoded.error().text);
  return {.tokens = std::move(encoded->tokens),
          .marks = std::move(encoded->marks),
          .max_tokens = 40,
          .stop_tokens = session.stop_tokens};
}

Outcome answer(Session& session, Request request) {
  std::vector<Request> list;
  list.push_back(std::move(request));
  return run_all(*session.engine, std::move(list)).front();
}

// The second prompt with a system prompt finds it, whatever the layers remember; a follow-up finds
// everything before the new turn. With the same tokens as without a cache.
TEST_P(Laws, PromptsComputeOnlyWhatIsNew) {
  const std::string system =
      "Write only the calculations, one on each line, then the answer. Do not say anything else.";
  const std::string first = "Ben buys 8 apples for $2 each and pays with $31. How much is left?";
  const std::string second = "3 marbles cost $12. How many dollars do 4 marbles cost?";
  Session session = open_checkpoint(flags(64, 16));
  session.engine->poison_freed_pages(true);
  const Request opening = chat(session, {{"system", system}, {"user", first}});
  const Outcome cold = answer(session, opening);
  EXPECT_EQ(cold.usage.cached_tokens, 0);

  const Request other = chat(session, {{"system", system}, {"user", second}});
  ASSERT_EQ(other.marks.size(), 2u);
  EXPECT_GE(answer(session, other).usage.cached_tokens, other.marks[0] / 16 * 16);

  const std::string reply = *session.tokenizer->decode(cold.tokens, /*skip_special=*/true);
  const Request more =
      chat(session,
           {{"system", system}, {"user", first}, {"assistant", reply}, {"user", "And with $40?"}});
  const Outcome warm = answer(session, more);
  const auto n_before = static_cast<int32_t>(opening.tokens.size() + cold.tokens.size());
  EXPECT_GE(warm.usage.cached_tokens, (n_before - 1) / 16 * 16);
  Session fresh = open_checkpoint(flags(64, 16));
  EXPECT_EQ(answer(fresh, more).tokens, warm.tokens);
}

TEST_P(Laws, ThreadsDoNotMatter) {
  for (const int32_t threads : {1, 3}) {
    ModelFlags f = flags(512, 16);
    f.threads = threads;
    Session session = open_checkpoint(f);
    expect_same(run_all(*session.engine, requests()));
  }
}

}  // namespace
}  // namespace ashlar
