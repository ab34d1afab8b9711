#include "kv/arena.h"

#include <gtest/gtest.h>

#include <random>

namespace ashlar {
namespace {

ArenaLayout layout() {
  return {.slab_bytes = 12 * 256,
          .n_slabs = 40,
          .groups = {{.page_bytes = 256, .page_data_bytes = 256, .pages_per_slab = 12},
                     {.page_bytes = 5 * 256, .page_data_bytes = 1200, .pages_per_slab = 2}}};
}

TEST(Arena, FillsTheFullestSlabFirstAndReturnsEmptyOnes) {
  Arena arena(layout());
  std::vector<uint32_t> pages;
  for (int i = 0; i < 13; ++i) pages.push_back(arena.allocate(0));
  EXPECT_EQ(arena.leased_slabs(0), 2);
  arena.free(0, pages[3]);  // the full slab has room again and is fuller than the other
  EXPECT_EQ(arena.allocate(0), pages[3]);
  arena.free(0, pages[12]);
  EXPECT_EQ(arena.leased_slabs(0), 1);
  arena.audit();
}

TEST(Arena, FitsCountsAllGroupsTogether) {
  Arena arena(layout());
  EXPECT_TRUE(arena.fits(std::vector<int64_t>{12 * 40, 0}));
  EXPECT_TRUE(arena.fits(std::vector<int64_t>{12 * 20, 2 * 20}));
  EXPECT_FALSE(arena.fits(std::vector<int64_t>{12 * 20 + 1, 2 * 20}));
}

// Random churn until refusal: every page is apart from every other, and the counts stay true.
TEST(Arena, RandomChurnKeepsEveryPageApart) {
  std::mt19937 random(7);
  Arena arena(layout());
  std::vector<std::pair<size_t, uint32_t>> live;
  std::vector<int> owner(40 * 12, 0);
  const auto mark = [&](size_t group, uint32_t page, int by) {
    for (uint32_t granule = page; granule < page + (group == 0 ? 1 : 5); ++granule) {
      EXPECT_EQ(owner.at(granule), by > 0 ? 0 : 1);
      owner[granule] += by;
    }
  };
  int refusals = 0;
  for (int round = 0; round < 20000; ++round) {
    const size_t group = random() % 2;
    std::vector<int64_t> one(2, 0);
    one[group] = 1;
    const bool fits = arena.fits(one);
    refusals += !fits;
    if (fits && random() % 8 < 5) {
      live.emplace_back(group, arena.allocate(group));
      mark(group, live.back().second, 1);
    } else if (!live.empty()) {
      const size_t victim = random() % live.size();
      mark(live[victim].first, live[victim].second, -1);
      arena.free(live[victim].first, live[victim].second);
      live[victim] = live.back();
      live.pop_back();
    }
    if (round % 500 == 0) arena.audit();
  }
  EXPECT_GT(refusals, 0);
}

TEST(ArenaDeathTest, FreeingTwiceAborts) {
  Arena arena(layout());
  const uint32_t kept = arena.allocate(1);
  const uint32_t page = arena.allocate(1);
  arena.free(1, page);
  EXPECT_DEATH(arena.free(1, page), "no live page");
  EXPECT_DEATH(arena.free(0, kept), "no live page");
}

}  // namespace
}  // namespace ashlar
