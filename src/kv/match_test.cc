// Hits: which boundaries can be resumed, for every mix of layer kinds.

#include <gtest/gtest.h>

#include <random>

#include "base/checked.h"
#include "kv/cache_testing.h"
#include "mixes.h"

namespace ashlar {
namespace {

constexpr int64_t kPlenty = int64_t{16} << 20;

bool stateful(const Cache& cache) {
  for (const CacheGroup& group : cache.groups()) {
    if (group.kind == LayerKind::state) return true;
  }
  return false;
}

Cache cache_of(const sim::Mix& mix, int64_t memory_bytes) {
  sim::Mix sized = mix;
  sized.memory_bytes = memory_bytes;
  auto cache = Cache::create(*sized.layout(), mix.options);
  EXPECT_TRUE(cache) << cache.error().text;
  return std::move(*cache);
}

// The largest boundary below n whose pages, as the design's rules say kind by kind, are all in the
// index. Written apart from the product's walk: boundary by boundary, page by page.
int32_t best_boundary(const Cache& cache, const std::vector<int32_t>& tokens) {
  const PrefixIndex& index = cache.index();
  const int32_t page = cache.block_tokens();
  PrefixIndex keys(1, false, 0);
  std::vector<NodeId> nodes;
  Digest key = keys.root({}, {});
  for (size_t t = 0; t + page <= tokens.size(); t += page) {
    key = keys.next_key(key, std::span(tokens).subspan(t, static_cast<size_t>(page)));
    nodes.push_back(index.find(key));
  }
  // `column` is the group's first.
  const auto has = [&](int32_t token, size_t column, int32_t page_tokens) {
    const auto block = static_cast<size_t>(token / page);
    const auto within = static_cast<size_t>(token % page / page_tokens);
    return block < nodes.size() && nodes[block] != kNoNode &&
           index.entry(nodes[block], column + within).page != kNoPage;
  };
  const auto resumable = [&](int32_t b) {
    size_t column = 0;
    bool states = false;
    for (const CacheGroup& group : cache.groups()) {
      if (group.kind == LayerKind::state) {
        states = true;
        continue;
      }
      int32_t first = 0;
      if (group.kind == LayerKind::window) first = b - group.window + 1;
      if (group.kind == LayerKind::chunk) first = b / group.chunk * group.chunk;
      // Behind the last token alone: as if the page it goes into were needed, too.
      const int32_t end = b % page == 0 ? b : b + 1;
      for (int32_t token = std::max(0, first); token < end; ++token) {
        if (!has(token, column, group.page_tokens)) return false;
      }
      column += static_cast<size_t>(page / group.page_tokens);
    }
    return !states || (b % page == 0 && has(b - 1, index.snapshots(), page));
  };
  const auto n = static_cast<int32_t>(tokens.size());
  // A prefix is known only as far as its nodes are.
  size_t n_known = 0;
  while (n_known < nodes.size() && nodes[n_known] != kNoNode) ++n_known;
  const int32_t known = static_cast<int32_t>(n_known) * page;
  if (n % page == 0 && n > 1 && known == n && resumable(n - 1)) return n - 1;
  for (int32_t b = std::min(known, (n - 1) / page * page); b > 0; b -= page) {
    if (resumable(b)) return b;
  }
  return 0;
}

TEST(Match, AWarmPromptComputesItsTailAlone) {
  for (const sim::Mix& mix : sim::mixes(16)) {
    Cache cache = cache_of(mix, kPlenty);
    EXPECT_EQ(serve(&cache, text_of(1, 100)), 0) << mix.name;
    EXPECT_EQ(serve(&cache, text_of(1, 100)), 96) << mix.name;
    // All of it is known: one token is computed again; a state has none to start from but the
    // page boundary before.
    EXPECT_EQ(serve(&cache, text_of(2, 96)), 0) << mix.name;
    EXPECT_EQ(serve(&cache, text_of(2, 96)), stateful(cache) ? 80 : 95) << mix.name;
    // Generated tokens are known too: here up to 96, and a state is kept at the last page's end.
    EXPECT_EQ(serve(&cache, text_of(2, 97)), 96) << mix.name;
    EXPECT_EQ(serve(&cache, text_of(3, 16)), 0) << mix.name;
    EXPECT_EQ(serve(&cache, text_of(3, 15)), 0) << mix.name;
    EXPECT_EQ(serve(&cache, text_of(3, 17)), 16) << mix.name;
    cache.audit({});
  }
}

// Boundary values around every size, against the brute force, in caches that pressure has thinned.
TEST(Match, FindsTheLargestResumableBoundary) {
  for (const int32_t page : {16, 4, 1}) {
    for (const sim::Mix& mix : sim::all_mixes(page)) {
      Cache cache = cache_of(mix, mix.memory_bytes);
      std::mt19937 random(17);
      int32_t n_hits = 0;
      for (int round = 0; round < 60; ++round) {
        const auto n = static_cast<int32_t>(1 + random() % 140);
        const std::vector<int32_t> tokens = text_of(static_cast<int32_t>(random() % 3), n) +
                                            text_of(10 + round, static_cast<int32_t>(random() % 3));
        const int32_t best = best_boundary(cache, tokens);
        TestSequence s;
        EXPECT_EQ(begin(&cache, &s, tokens), best) << mix.name << " " << tokens.size();
        EXPECT_TRUE(compute(&cache, &s)) << mix.name;
        cache.release(&s.tables);
        n_hits += best > 0;
      }
      EXPECT_GT(n_hits, 5) << mix.name;
      cache.audit({});
    }
  }
}

TEST(Match, TwoSaltsNeverShare) {
  for (const sim::Mix& mix : sim::mixes(16)) {
    Cache cache = cache_of(mix, kPlenty);
    serve(&cache, text_of(1, 100), "one");
    EXPECT_EQ(serve(&cache, text_of(1, 100), "two"), 0) << mix.name;
    EXPECT_EQ(serve(&cache, text_of(1, 100)), 0) << mix.name;
    EXPECT_EQ(serve(&cache, text_of(1, 100), "one"), 96) << mix.name;
    TestSequence s;
    s.tokens = text_of(1, 100);
    EXPECT_EQ(cache.match(&s.tables, {.tokens = s.tokens, .salt = "one", .adapter = "lora"}), 0);
    cache.release(&s.tables);
  }
}

// A system prompt of 70 tokens: where the text room marks its end, the second sighting resumes
// there; without a mark the second sighting finds the junction, and the third resumes.
TEST(Match, ASharedSystemPromptHitsAtPageGrain) {
  for (sim::Mix& mix : sim::mixes(16)) {
    mix.options.snapshot_interval = 1024;
    Cache cache = cache_of(mix, kPlenty);
    const auto system = text_of(1, 70);
    serve(&cache, system + text_of(2, 50), {}, {70});
    EXPECT_EQ(serve(&cache, system + text_of(3, 40), {}, {70}), 64) << mix.name;

    const auto unmarked = text_of(4, 70);
    serve(&cache, unmarked + text_of(5, 50));
    EXPECT_EQ(serve(&cache, unmarked + text_of(6, 40)), stateful(cache) ? 0 : 64) << mix.name;
    EXPECT_EQ(serve(&cache, unmarked + text_of(7, 40)), 64) << mix.name;
  }
}

TEST(Match, MissesSayWhy) {
  for (sim::Mix& mix : sim::mixes(16)) {
    mix.options.snapshot_interval = 1024;
    Cache cache = cache_of(mix, kPlenty);
    const auto requests = [&](Miss miss) {
      return cache.stats().miss_requests[static_cast<size_t>(miss)];
    };
    serve(&cache, text_of(1, 12));
    EXPECT_EQ(requests(Miss::too_short), 1);
    serve(&cache, text_of(2, 100), "salt");
    EXPECT_EQ(requests(Miss::never_seen), 1);
    serve(&cache, text_of(2, 100));
    EXPECT_EQ(requests(Miss::salt), 1);
    serve(&cache, text_of(2, 100));  // a hit to the last page is no miss
    serve(&cache, text_of(2, 70) + text_of(3, 30));
    EXPECT_EQ(requests(Miss::no_state), stateful(cache)) << mix.name;
    EXPECT_EQ(requests(Miss::never_seen), stateful(cache) ? 1 : 2) << mix.name;
    EXPECT_EQ(requests(Miss::evicted), 0) << mix.name;
    int64_t missed = 0;
    for (const int64_t n : cache.stats().miss_tokens) missed += n;
    EXPECT_EQ(missed + cache.stats().hit_tokens, cache.stats().prompt_tokens) << mix.name;
  }
}

TEST(Match, WhatWasEvictedIsToldFromWhatWasNeverSeen) {
  const sim::Mix mix = sim::mix_named("full+window/16");
  Cache cache = cache_of(mix, mix.memory_bytes);
  serve(&cache, text_of(1, 200));
  for (int32_t text = 2; text < 40; ++text) serve(&cache, text_of(text, 200));
  EXPECT_LT(peek(&cache, text_of(1, 200)), 192);
  EXPECT_EQ(cache.stats().miss_requests[static_cast<size_t>(Miss::evicted)], 1);
}

// Where no layer looks back, a prompt resumes though nobody has computed what is before; what it
// then computes is shared like any other text.
TEST(Match, WhatIsNeverReadNeedNotBeComputed) {
  for (const int32_t page : {1, 4, 16}) {
    for (const sim::Mix& mix : sim::skipping_mixes(page)) {
      Cache cache = cache_of(mix, kPlenty);
      const int32_t grain = static_cast<int32_t>(std::lcm(mix.groups.back().chunk, page));
      for (const int32_t n : {1, grain - 1, grain, grain + 1, 3 * grain + 5}) {
        TestSequence s;
        EXPECT_EQ(begin(&cache, &s, text_of(n, n)), (n - 1) / grain * grain) << mix.name;
        EXPECT_TRUE(compute(&cache, &s));
        const Tables* const all[] = {&s.tables};
        cache.audit(all);
        cache.release(&s.tables);
        EXPECT_GE(peek(&cache, text_of(n, n)), (n - 1) / page * page) << mix.name << " " << n;
      }
      cache.audit({});
    }
  }
}

}  // namespace
}  // namespace ashlar
