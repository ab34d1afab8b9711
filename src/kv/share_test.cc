// Sharing and giving way: what two sequences have in common, what is written, what is evicted.

#include <gtest/gtest.h>

#include <random>
#include <set>

#include "base/checked.h"
#include "kv/cache_testing.h"
#include "mixes.h"

namespace ashlar {
namespace {

Cache cache_of(const sim::Mix& mix, int64_t memory_bytes) {
  auto cache = Cache::create(mix.groups, memory_bytes, mix.options);
  EXPECT_TRUE(cache) << cache.error().text;
  return std::move(*cache);
}

Cache plenty(const std::string& mix) { return cache_of(sim::mix_named(mix), int64_t{16} << 20); }

TEST(Share, TwoSequencesHoldOnePageAndWriteIntoTheirOwn) {
  Cache cache = plenty("full+window/16");
  TestSequence one, two;
  begin(&cache, &one, text_of(1, 64));
  ASSERT_TRUE(compute(&cache, &one));
  EXPECT_EQ(begin(&cache, &two, text_of(1, 64)), 63);
  EXPECT_EQ(two.tables.pages[0], one.tables.pages[0]);
  // The last token goes into a copy.
  ASSERT_TRUE(cache.reserve(&two.tables, 64));
  EXPECT_NE(two.tables.pages[0][3], one.tables.pages[0][3]);
  EXPECT_EQ(two.tables.pages[0][2], one.tables.pages[0][2]);
  const std::vector<PageCopy> copies = cache.take_copies();
  ASSERT_EQ(copies.size(), 2u);
  EXPECT_EQ(copies[0].from, one.tables.pages[0][3]);
  EXPECT_EQ(copies[0].to, two.tables.pages[0][3]);
  // At its commit the first writer's page stays, and the copy goes.
  cache.commit(&two.tables, 64, two.tokens);
  EXPECT_EQ(two.tables.pages[0], one.tables.pages[0]);
  const Tables* all[] = {&one.tables, &two.tables};
  cache.audit(all);
  cache.release(&one.tables);
  cache.release(&two.tables);
}

// Pages of 32 and of 16 tokens: a block is 32, and what is shared or copied of it is all its pages.
TEST(Share, ABlockOfSeveralPagesIsSharedWhole) {
  Cache cache = plenty("full*2+window/16");
  TestSequence one, two, three;
  begin(&cache, &one, text_of(1, 64));
  ASSERT_TRUE(cache.reserve(&one.tables, 48));
  cache.commit(&one.tables, 48, one.tokens);
  EXPECT_EQ(peek(&cache, text_of(1, 64)), 32);  // the third page is full, its block is not
  ASSERT_TRUE(compute(&cache, &one));
  EXPECT_EQ(begin(&cache, &two, text_of(1, 64)), 63);
  EXPECT_EQ(begin(&cache, &three, text_of(1, 60)), 32);
  EXPECT_EQ(two.tables.pages[0].size(), 2u);
  EXPECT_EQ(two.tables.pages[1].size(), 4u);
  EXPECT_EQ(two.tables.first_page[1], 2);  // the query at 63 sees from 44 on
  EXPECT_EQ(three.tables.pages[1].size(), 2u);
  EXPECT_EQ(three.tables.first_page[1], 0);  // the one at 32 from 13 on
  ASSERT_TRUE(cache.reserve(&two.tables, 64));
  EXPECT_EQ(cache.take_copies().size(), 3u);  // one page of the full group, two of the window's
  cache.commit(&two.tables, 64, two.tokens);
  EXPECT_EQ(two.tables.pages[0], one.tables.pages[0]);
  EXPECT_EQ(two.tables.pages[1][3], one.tables.pages[1][3]);
  const Tables* all[] = {&one.tables, &two.tables, &three.tables};
  cache.audit(all);
  for (TestSequence* s : {&one, &two, &three}) cache.release(&s->tables);
  cache.audit({});
}

TEST(Share, NothingIsShareableBeforeItsCommit) {
  for (const sim::Mix& mix : sim::mixes(16)) {
    Cache cache = cache_of(mix, int64_t{16} << 20);
    TestSequence one;
    begin(&cache, &one, text_of(1, 64));
    ASSERT_TRUE(cache.reserve(&one.tables, 48));
    EXPECT_EQ(peek(&cache, text_of(1, 64)), 0) << mix.name;
    cache.commit(&one.tables, 48, one.tokens);
    EXPECT_EQ(peek(&cache, text_of(1, 64)), 48) << mix.name;
    cache.release(&one.tables);
  }
}

TEST(Share, CropForgetsByLengthAndKeepsTheWindow) {
  Cache cache = plenty("full+window/16");
  TestSequence s;
  begin(&cache, &s, text_of(1, 68));
  ASSERT_TRUE(cache.reserve(&s.tables, 68));
  cache.commit(&s.tables, 68, s.tokens);
  cache.crop(&s.tables, 64);  // exactly a page: nothing to copy
  EXPECT_EQ(s.tables.pages[0].size(), 4u);
  ASSERT_TRUE(cache.reserve(&s.tables, 68));
  EXPECT_TRUE(cache.take_copies().empty());
  cache.commit(&s.tables, 68, s.tokens);
  cache.crop(&s.tables, 64);
  const uint32_t before = s.tables.pages[0][3];
  cache.crop(&s.tables, 63);  // into a page that others may find: the next write goes into a copy
  ASSERT_TRUE(cache.reserve(&s.tables, 64));
  EXPECT_EQ(cache.take_copies().size(), 2u);
  EXPECT_NE(s.tables.pages[0][3], before);
  EXPECT_EQ(peek(&cache, text_of(1, 66)), 64);
  const Tables* all[] = {&s.tables};
  cache.audit(all);
  cache.release(&s.tables);
}

// Back over a whole page: its block is the index's, not the table's, and is found when it is said
// again.
TEST(Share, CropOverAPageLetsItGo) {
  Cache cache = plenty("full+window/4");
  TestSequence s;
  begin(&cache, &s, text_of(1, 20));
  ASSERT_TRUE(compute(&cache, &s));
  cache.crop(&s.tables, 16);
  EXPECT_EQ(s.tables.pages[0].size(), 4u);
  EXPECT_EQ(s.tables.nodes.size(), 4u);
  const Tables* all[] = {&s.tables};
  cache.audit(all);
  ASSERT_TRUE(compute(&cache, &s));
  cache.audit(all);
  EXPECT_EQ(peek(&cache, text_of(1, 21)), 20);
  cache.release(&s.tables);
}

TEST(ShareDeathTest, CropBehindTheWindowOrOfAStateAborts) {
  Cache cache = plenty("full+window/16");
  TestSequence s;
  begin(&cache, &s, text_of(1, 100));
  ASSERT_TRUE(compute(&cache, &s));
  EXPECT_DEATH(cache.crop(&s.tables, 40), "needs tokens that have left");
  Cache states = plenty("full+state/16");
  TestSequence t;
  begin(&states, &t, text_of(1, 20));
  ASSERT_TRUE(compute(&states, &t));
  EXPECT_DEATH(states.crop(&t.tables, 19), "a state cannot be taken back");
}

TEST(Share, AcceptedDraftsChooseTheState) {
  Cache cache = plenty("full+state/16");
  TestSequence s;
  begin(&cache, &s, text_of(1, 40));
  ASSERT_TRUE(compute(&cache, &s));
  for (int32_t i = 0; i < 5; ++i) s.tokens.push_back(7 + i);
  ASSERT_TRUE(cache.reserve(&s.tables, 44, 4));
  const std::vector<uint32_t> slots = s.tables.pages[1];  // 3 layers, 5 slots
  ASSERT_EQ(slots.size(), 15u);
  cache.commit(&s.tables, 43, s.tokens);  // three of four tokens are kept
  EXPECT_TRUE(std::equal(slots.begin() + 9, slots.begin() + 12, s.tables.pages[1].begin()));
  ASSERT_TRUE(cache.reserve(&s.tables, 44));
  EXPECT_EQ(s.tables.pages[1].size(), 3u);
  const Tables* all[] = {&s.tables};
  cache.audit(all);
  cache.release(&s.tables);
}

// Generating keeps one state, the latest page boundary's, beside the prompt's own.
TEST(Share, GeneratingKeepsTheLatestState) {
  Cache cache = plenty("full+state/16");
  TestSequence s;
  begin(&cache, &s, text_of(1, 20));
  ASSERT_TRUE(compute(&cache, &s));
  const int64_t prompt_only = cache.cached_pages(1);
  for (int32_t n = 21; n < 140; ++n) {
    s.tokens.push_back(n);
    ASSERT_TRUE(compute(&cache, &s));
    EXPECT_EQ(cache.cached_pages(1), prompt_only + (n < 32 ? 0 : 3)) << n;
  }
  cache.release(&s.tables);
  EXPECT_EQ(peek(&cache, s.tokens + text_of(2, 9)), 128);
}

// Pages of a window in the middle of a text go before those at its end and at its marks.
TEST(Share, WindowPagesBehindUsefulBoundariesAreCheap) {
  sim::Mix mix = sim::mix_named("full+window/16");
  Cache cache = cache_of(mix, 4 * mix.memory_bytes);
  const auto system = text_of(1, 640);
  serve(&cache, system + text_of(2, 480), {}, {640});
  int32_t text = 10;
  while (cache.stats().n_evicted < 62) serve(&cache, text_of(text++, 100));
  EXPECT_EQ(peek(&cache, system + text_of(2, 200) + text_of(3, 9)), 640);
  EXPECT_EQ(peek(&cache, system + text_of(2, 480) + text_of(3, 9)), 1120);
}

// What is held stays, whatever happens to the rest.
TEST(Share, EvictionUnderPressureTakesTheOldest) {
  for (const sim::Mix& mix : sim::mixes(16)) {
    Cache cache = cache_of(mix, 3 * mix.memory_bytes);
    TestSequence kept;
    begin(&cache, &kept, text_of(1, 100));
    ASSERT_TRUE(compute(&cache, &kept)) << mix.name;
    int32_t text = 2;
    for (; text < 300; ++text) serve(&cache, text_of(text, 100));
    EXPECT_GT(cache.stats().n_evicted, 100) << mix.name;
    // A sequence holds its own state; what others could resume from is cached like anything else.
    const int32_t hit = peek(&cache, text_of(1, 100) + text_of(0, 3));
    EXPECT_EQ(hit, cache.index().n_columns() > cache.index().n_token_columns() ? 0 : 96)
        << mix.name;
    EXPECT_EQ(peek(&cache, text_of(text - 1, 100)), 96) << mix.name;
    EXPECT_LT(peek(&cache, text_of(2, 90)), 80) << mix.name;
    const Tables* all[] = {&kept.tables};
    cache.audit(all);
    cache.release(&kept.tables);
  }
}

// The n-th demand for pages finds none, for every n of a short life: nothing half done, and the
// next try goes through.
TEST(Share, RefusedAtEveryDemand) {
  for (const sim::Mix& mix : sim::mixes(16)) {
    for (int64_t n = 1;; ++n) {
      Cache cache = cache_of(mix, int64_t{16} << 20);
      serve(&cache, text_of(1, 64));
      cache.refuse_demand(n);
      TestSequence one, two;
      const Tables* all[] = {&one.tables, &two.tables};
      int refusals = 0;
      begin(&cache, &one, text_of(1, 64));
      const auto insist = [&](auto&& act) {
        const auto pages = one.tables.pages;
        if (act()) return;
        ++refusals;
        EXPECT_EQ(one.tables.pages, pages) << mix.name << " " << n;
        cache.audit(all);
        EXPECT_TRUE(act()) << mix.name << " " << n;
      };
      for (int32_t end : {64, 65, 66, 100}) {
        while (static_cast<int32_t>(one.tokens.size()) < end) one.tokens.push_back(end);
        insist([&] { return cache.reserve(&one.tables, end); });
        cache.commit(&one.tables, end, one.tokens);
        cache.audit(all);
      }
      insist([&] { return cache.fork(one.tables, &two.tables); });
      cache.audit(all);
      cache.release(&two.tables);
      cache.release(&one.tables);
      cache.audit({});
      const bool used_up = !cache.refuses_demand();
      EXPECT_LE(refusals, 1);
      if (!used_up) break;
    }
  }
}

// Planned equals allocated, for every mix: sequences that the closed form admits fill the arena to
// the last one, and no further.
TEST(Share, HeldPagesEqualTheClosedForm) {
  for (const sim::Mix& mix : sim::mixes(16)) {
    Cache cache = cache_of(mix, 2 * mix.memory_bytes);
    std::vector<std::unique_ptr<TestSequence>> sequences;
    while (cache.has_room(90, 90)) {
      sequences.push_back(std::make_unique<TestSequence>());
      const auto text = static_cast<int32_t>(sequences.size());
      begin(&cache, sequences.back().get(), text_of(text, 90));
      ASSERT_TRUE(cache.reserve(&sequences.back()->tables, 90, mix.options.state_slots));
    }
    ASSERT_GT(sequences.size(), 3u) << mix.name;
    for (size_t g = 0; g < mix.groups.size(); ++g) {
      const StepShape shape = {.step_tokens = 90,
                               .slack_tokens = mix.options.slack_tokens,
                               .state_slots = mix.options.state_slots};
      EXPECT_EQ(cache.held_pages(g),
                static_cast<int64_t>(sequences.size()) * most_pages(mix.groups[g], 90, shape))
          << mix.name << " group " << g;
    }
    TestSequence more;
    EXPECT_FALSE(cache.reserve(&more.tables, 90, mix.options.state_slots)) << mix.name;
    for (auto& s : sequences) cache.release(&s->tables);
    cache.audit({});
  }
}

// Mixed churn in an arena of many slabs: whenever a sequence cannot grow, at least 97 % of the
// bytes are in pages that hold or may give back tokens.
TEST(Share, ARefusedArenaIsFull) {
  for (const sim::Mix& mix : sim::mixes(16)) {
    const bool needs_all = mix.name.starts_with("full") || mix.name.starts_with("latent");
    if (!needs_all) continue;  // sequences that never grow are never refused here
    Cache cache = cache_of(mix, 120 * mix.memory_bytes);
    std::mt19937 random(23);
    std::vector<std::unique_ptr<TestSequence>> live;
    double worst = 1;
    int refusals = 0;
    for (int32_t round = 0; round < 6000; ++round) {
      if (live.size() < 900) {
        live.push_back(std::make_unique<TestSequence>());
        begin(&cache, live.back().get(), text_of(round, 20 + static_cast<int32_t>(random() % 400)));
      }
      TestSequence& s = *live[random() % live.size()];
      if (s.tables.n_tokens >= static_cast<int32_t>(s.tokens.size()))
        for (int i = 0; i < 40; ++i) s.tokens.push_back(static_cast<int32_t>(random() % 90));
      if (compute(&cache, &s, 16)) continue;
      ++refusals;
      const auto arena_bytes = static_cast<double>(cache.arena().layout().arena_bytes());
      worst = std::min(worst, 1 - static_cast<double>(cache.unused_bytes()) / arena_bytes);
      for (int i = 0; i < 30; ++i) {
        const size_t victim = random() % live.size();
        cache.release(&live[victim]->tables);
        std::swap(live[victim], live.back());
        live.pop_back();
      }
    }
    EXPECT_GT(refusals, 10) << mix.name;
    EXPECT_GE(worst, 0.97) << mix.name << ": " << refusals << " refusals, "
                           << cache.arena().layout().n_slabs << " slabs";
    for (auto& s : live) cache.release(&s->tables);
    cache.audit({});
    RecordProperty(mix.name, std::to_string(worst));
  }
}

}  // namespace
}  // namespace ashlar
