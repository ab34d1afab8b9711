#include "kv/cache.h"

#include <gtest/gtest.h>

#include <random>

#include "base/checked.h"

namespace ashlar {
namespace {

std::vector<CacheGroup> groups(int32_t page_tokens) {
  return {{.kind = LayerKind::full,
           .layers = {0, 2},
           .kv_heads = 1,
           .k_dim = 48,
           .v_dim = 32,
           .page_tokens = page_tokens},
          {.kind = LayerKind::window,
           .layers = {1, 3, 4},
           .kv_heads = 2,
           .k_dim = 48,
           .v_dim = 32,
           .window = 32,
           .page_tokens = page_tokens}};
}

TEST(Cache, WindowPagesLeaveWhenNoLaterQuerySeesThem) {
  auto cache = Cache::create(groups(16), 1 << 20);
  ASSERT_TRUE(cache) << cache.error().text;
  Tables tables;
  for (int32_t n = 1; n <= 200; ++n) {
    ASSERT_TRUE(cache->reserve(&tables, n));
    cache->commit(&tables, n);
    // The query at n sees [n - 31, n]: exactly the pages that overlap that range stay.
    const int32_t first = std::max(0, n - 31) / 16;
    EXPECT_EQ(cache->arena().live_pages(0), ceil_div(n, 16));
    EXPECT_EQ(cache->arena().live_pages(1), ceil_div(n, 16) - first) << n;
    EXPECT_EQ(tables.first_page[1], first);
  }
  cache->release(&tables);
  EXPECT_EQ(cache->arena().free_slabs(), cache->arena().layout().n_slabs);
}

TEST(Cache, ReserveIsAllOrNothing) {
  auto cache = Cache::create(groups(16), 1 << 20);
  ASSERT_TRUE(cache);
  Tables one, two;
  ASSERT_TRUE(cache->reserve(&one, 64));
  const auto before = one.pages;
  EXPECT_FALSE(cache->reserve(&one, 1 << 20));
  EXPECT_EQ(one.pages, before);
  EXPECT_FALSE(cache->reserve(&two, 1 << 20));
  EXPECT_EQ(cache->arena().live_pages(0) + cache->arena().live_pages(1), 8);
  const Tables* all[] = {&one, &two};
  cache->audit(all);
}

// Views of different layers and heads never overlap inside a page, and stay inside it.
TEST(Cache, ViewsTileThePage) {
  for (const int32_t page_tokens : {1, 16, 64}) {
    auto cache = Cache::create(groups(page_tokens), 1 << 22);
    ASSERT_TRUE(cache);
    for (size_t g = 0; g < 2; ++g) {
      const CacheGroup& group = cache->groups()[g];
      std::vector<int> bytes(static_cast<size_t>(group.page_bytes()), 0);
      for (int64_t layer = 0; layer < group.n_layers(); ++layer) {
        const PagedView view = cache->view(g, layer);
        for (int32_t head = 0; head < group.kv_heads; ++head) {
          for (int32_t slot = 0; slot < page_tokens; ++slot) {
            const auto k = static_cast<size_t>(view.k(0, head, slot) - view.base);
            const auto v = static_cast<size_t>(view.v(0, head, slot) - view.base);
            for (size_t i = 0; i < 48 * 2; ++i) ++bytes.at(k + i);
            for (size_t i = 0; i < 32 * 2; ++i) ++bytes.at(v + i);
          }
        }
      }
      EXPECT_EQ(std::count(bytes.begin(), bytes.end(), 1), group.page_data_bytes());
      EXPECT_EQ(std::count(bytes.begin(), bytes.end(), 0),
                group.page_bytes() - group.page_data_bytes());
    }
  }
}

// What the closed form says fits one sequence, fits: filled token by token and in steps, to the
// last one.
TEST(Cache, LongestSequenceIsExact) {
  for (const int32_t step : {1, 7, 64}) {
    auto cache = Cache::create(groups(16), 3 << 19);
    ASSERT_TRUE(cache);
    const int32_t longest = cache->longest_sequence(step);
    ASSERT_GT(longest, 100);
    Tables tables;
    for (int32_t n = 0; n < longest;) {
      const int32_t end = std::min(longest, n + step);
      ASSERT_TRUE(cache->reserve(&tables, end)) << n << " of " << longest;
      cache->commit(&tables, end);
      n = end;
    }
    EXPECT_FALSE(cache->could_ever_fit(longest + 1, step));
  }
}

TEST(Cache, RandomSequencesKeepTheBooks) {
  std::mt19937 random(3);
  auto cache = Cache::create(groups(16), 3 << 19);
  ASSERT_TRUE(cache);
  cache->poison_freed_pages(true);
  std::vector<Tables> sequences(12);
  int refusals = 0;
  for (int round = 0; round < 4000; ++round) {
    Tables& tables = sequences[random() % sequences.size()];
    if (random() % 10 == 0) {
      cache->release(&tables);
    } else {
      const int32_t end = tables.n_tokens + 1 + static_cast<int32_t>(random() % 40);
      if (cache->reserve(&tables, end)) {
        cache->commit(&tables, end - static_cast<int32_t>(random() % 2));
      } else {
        ++refusals;
      }
    }
    if (round % 100 == 0) {
      std::vector<const Tables*> all;
      for (const Tables& t : sequences) all.push_back(&t);
      cache->audit(all);
    }
  }
  EXPECT_GT(refusals, 0);
}

}  // namespace
}  // namespace ashlar
