// The laws of a request, bit for bit: what it gives does not depend on what shares its steps, how
// its prompt is cut, how large pages are, what lies between them, or whether its pages were taken
// on the way.

#include "checkpoint.h"

namespace ashlar {
namespace {

constexpr const char* kModel = "zoo/mimo-tiny";
constexpr int32_t kGenerated = 12;

ModelFlags flags(int32_t chunk, int32_t block_size) {
  return {.model = kModel, .block_size = block_size, .max_step_tokens = chunk};
}

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
const std::vector<Outcome>& alone() {
  static const std::vector<Outcome> outcomes = [] {
    std::vector<Outcome> all;
    Session session = open_checkpoint(flags(512, 16));
    for (Request& request : requests()) {
      std::vector<Request> one;
      one.push_back(std::move(request));
      all.push_back(run_all(*session.engine, std::move(one)).front());
    }
    return all;
  }();
  return outcomes;
}

void expect_same(const std::vector<Outcome>& outcomes) {
  ASSERT_EQ(outcomes.size(), alone().size());
  for (size_t i = 0; i < outcomes.size(); ++i) {
    EXPECT_EQ(outcomes[i].error, "");
    EXPECT_EQ(outcomes[i].tokens.size(), size_t{kGenerated});
    EXPECT_TRUE(outcomes[i].same(alone()[i])) << "request " << i;
  }
}

TEST(Laws, BatchOfOneIsBatchOfMany) {
  Session session = open_checkpoint(flags(512, 16));
  expect_same(run_all(*session.engine, requests()));
}

TEST(Laws, ChunkedPrefillIsWholePrefill) {
  for (const int32_t chunk : {1, 7, 64}) {
    SCOPED_TRACE(chunk);
    Session session = open_checkpoint(flags(chunk, 16));
    expect_same(run_all(*session.engine, requests()));
  }
}

TEST(Laws, PageSizeDoesNotMatter) {
  for (const int32_t block_size : {1, 64}) {
    SCOPED_TRACE(block_size);
    Session session = open_checkpoint(flags(512, block_size));
    expect_same(run_all(*session.engine, requests()));
  }
}

// Two rounds over poisoned pages: whatever the second round reads was written by it.
TEST(Laws, GarbageBetweenPagesIsNeverRead) {
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
TEST(Laws, WarmIsCold) {
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

TEST(Laws, TwoSaltsNeverShare) {
  Session session = open_checkpoint(flags(64, 16));
  for (const char* salt : {"one", "two", "one"}) {
    std::vector<Request> list = requests();
    list.erase(list.begin(), list.begin() + 14);
    list.resize(1);
    list.front().want_prompt_nll = false;
    list.front().salt = salt;
    static int n_runs = 0;
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

ModelFlags flags(const LayoutFlags& layout) {
  ModelFlags out = flags(64, layout.block_size);
  out.layout = layout.layout;
  out.pack = layout.pack;
  return out;
}

// A pool of equal blocks, grown and padded, gives what the arena gives; from cached prefixes, and
// over poisoned pages when others' prefixes have been evicted.
TEST(Laws, LayoutDoesNotMatter) {
  for (const LayoutFlags& layout : kUniform) {
    SCOPED_TRACE(testing::Message() << "pack " << layout.pack << " of " << layout.block_size);
    ModelFlags small = flags(layout);
    small.memory = "4MiB";
    Session session = open_checkpoint(small);
    session.engine->poison_freed_pages(true);
    for (const char* salt : {"", "", "one", "two"}) {
      std::vector<Request> list = requests();
      for (Request& request : list) request.salt = salt;
      expect_same(run_all(*session.engine, std::move(list)));
    }
    EXPECT_GT(session.engine->cache().stats().n_evicted, 0);
    EXPECT_GT(session.engine->cache().stats().hit_tokens, 0);
  }
}

// Short prompts that all fit grow until they do not: the latest give their pages and are computed
// again.
TEST(Laws, PreemptedIsStraight) {
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
    ModelFlags small = flags(layout);
    small.memory = "640KiB";
    Session session = open_checkpoint(small);
    session.engine->poison_freed_pages(true);
    const std::vector<Outcome> preempted = run_all(*session.engine, growing());
    EXPECT_GT(session.engine->stats().n_preemptions, 0);
    for (size_t i = 0; i < straight.size(); ++i) {
      EXPECT_EQ(preempted[i].error, "");
      EXPECT_TRUE(preempted[i].same(straight[i])) << "request " << i;
    }
  }
}

TEST(Laws, ThreadsDoNotMatter) {
  for (const int32_t threads : {1, 3}) {
    ModelFlags f = flags(512, 16);
    f.threads = threads;
    Session session = open_checkpoint(f);
    expect_same(run_all(*session.engine, requests()));
  }
}

}  // namespace
}  // namespace ashlar
