// Random lives on every mix of layer kinds, and the traces of those that once failed.
//
//   sim_test                      30,000 operations
//   ASHLAR_SIM_SEEDS=200 ASHLAR_SIM_OPS=5000 sim_test     a million
//   ASHLAR_SIM_TRACE=file sim_test --gtest_filter=*Traces*   one trace, without a child process

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "shrink.h"
#include "world.h"

namespace ashlar::sim {
namespace {

int64_t setting(const char* name, int64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::atoll(text);
}

Trace random_trace(uint32_t seed, int64_t n_ops) {
  constexpr int32_t kPageTokens[] = {16, 4, 1, 16, 32};
  const size_t n_mixes = all_mixes(1).size() + skipping_mixes(1).size();
  const int32_t page_tokens = kPageTokens[(seed / n_mixes) % 5];
  std::vector<Mix> all = all_mixes(page_tokens);
  for (Mix& mix : skipping_mixes(page_tokens)) all.push_back(std::move(mix));
  Trace trace{.mix = all[seed % all.size()].name};
  std::mt19937 random(seed);
  for (int64_t i = 0; i < n_ops; ++i) trace.ops.push_back(random_op(random));
  return trace;
}

TEST(Sim, RandomLivesKeepTheBooksAndReadWhatTheyWrote) {
  const int64_t n_seeds = setting("ASHLAR_SIM_SEEDS", 66);
  const int64_t n_ops = setting("ASHLAR_SIM_OPS", 500);
  const auto first = static_cast<uint32_t>(setting("ASHLAR_SIM_FIRST", 0));
  for (uint32_t seed = first; seed < first + n_seeds; ++seed) {
    const Trace trace = random_trace(seed, n_ops);
    if (survives(trace, false)) continue;
    const auto file =
        std::filesystem::path(testing::TempDir()) / ("seed_" + std::to_string(seed) + ".trace");
    const Trace small = shrink(trace);
    std::ofstream(file) << print(small);
    FAIL() << "seed " << seed << " on " << trace.mix << "; shortened to " << small.ops.size()
           << " operations in " << file << ":\n"
           << print(small);
  }
}

// A run that never meets pressure proves little: each mix must have seen all of it.
TEST(Sim, EveryMixMeetsEveryPressure) {
  for (const Mix& mix : all_mixes(16)) {
    World world(mix);
    std::mt19937 random(11);
    for (int i = 0; i < 6000; ++i) world.apply(random_op(random));
    const CacheStats& stats = world.cache().stats();
    EXPECT_GT(stats.hit_tokens, 200) << mix.name;
    EXPECT_GT(stats.n_evicted, 50) << mix.name;
    EXPECT_GT(world.n_refused(), 5) << mix.name;
    // In a pool every page is a block of its own.
    EXPECT_EQ(stats.n_moved > 0, mix.groups.size() > 1 && !mix.equal_blocks) << mix.name;
    bool stateful = false;
    for (const CacheGroup& group : mix.groups) stateful |= group.kind == LayerKind::state;
    EXPECT_EQ(stats.n_snapshots > 50, stateful) << mix.name;
  }
}

Result<Trace> load_trace(const std::filesystem::path& path) {
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  return parse_trace(text.str());
}

// ASHLAR_SIM_TRACE=file plays that one alone and in this process, for a debugger.
TEST(Sim, TracesThatOnceFailed) {
  if (const char* file = std::getenv("ASHLAR_SIM_TRACE"); file != nullptr) {
    const auto trace = load_trace(file);
    ASSERT_TRUE(trace) << trace.error().text;
    World world(mix_named(trace->mix));
    for (const Op& op : trace->ops) world.apply(op);
    return;
  }
  int n_traces = 0;
  for (const auto& entry : std::filesystem::directory_iterator(ASHLAR_SOURCE_DIR "/tests/traces")) {
    if (entry.path().extension() != ".trace") continue;
    const auto trace = load_trace(entry.path());
    ASSERT_TRUE(trace) << entry.path() << ": " << trace.error().text;
    ASSERT_FALSE(mix_named(trace->mix).groups.empty()) << entry.path() << ": mix " << trace->mix;
    EXPECT_TRUE(survives(*trace, false)) << entry.path();
    ++n_traces;
  }
  EXPECT_GT(n_traces, 0);
}

TEST(Sim, TracesArePrintedAsTheyAreRead) {
  const Trace trace = random_trace(5, 300);
  const auto again = parse_trace(print(trace));
  ASSERT_TRUE(again);
  EXPECT_EQ(print(*again), print(trace));
  EXPECT_FALSE(parse_trace("mix full/16\nadmit 1 2"));
  EXPECT_FALSE(parse_trace("mix full/16\nforget 1"));
  EXPECT_FALSE(parse_trace("run"));
}

}  // namespace
}  // namespace ashlar::sim
