#include "kv/layout.h"

#include <gtest/gtest.h>

namespace ashlar {
namespace {

CacheGroup group(int32_t n_layers, int32_t kv_heads, int32_t k_dim, int32_t v_dim, int32_t window) {
  CacheGroup g{.kv_heads = kv_heads, .k_dim = k_dim, .v_dim = v_dim, .window = window};
  for (int32_t i = 0; i < n_layers; ++i) g.layers.push_back(i);
  return g;
}

// A published geometry: 9 full layers of 4 heads, 39 windowed ones of 8, K 192, V 128.
std::vector<CacheGroup> wide() { return {group(9, 4, 192, 128, 0), group(39, 8, 192, 128, 128)}; }

TEST(ArenaLayout, FindsTheSlabWithoutRemainder) {
  const auto layout = arena_layout(wide(), int64_t{60} << 30);
  ASSERT_TRUE(layout) << layout.error().text;
  EXPECT_EQ(layout->groups[0].page_bytes, 368640);
  EXPECT_EQ(layout->groups[1].page_bytes, 3194880);
  EXPECT_EQ(layout->slab_bytes, 9584640);
  EXPECT_EQ(layout->slab_remainder(0), 0);
  EXPECT_EQ(layout->slab_remainder(1), 0);
  EXPECT_LT((int64_t{60} << 30) - layout->arena_bytes(), layout->slab_bytes);
}

TEST(ArenaLayout, PagesAreWholeGranules) {
  const auto layout =
      arena_layout(std::vector{group(1, 1, 20, 12, 0), group(3, 1, 40, 24, 17)}, 1 << 24);
  ASSERT_TRUE(layout);
  for (const GroupLayout& g : layout->groups) {
    EXPECT_EQ(g.page_bytes % 256, 0);
    EXPECT_LT(g.page_bytes - g.page_data_bytes, 256);
    EXPECT_GE(g.pages_per_slab, 1);
  }
}

TEST(ArenaLayout, TooLittleMemoryNamesWhatIsNeeded) {
  const auto layout = arena_layout(wide(), 1 << 20);
  ASSERT_FALSE(layout);
  EXPECT_EQ(layout.error().code, Code::exhausted);
  EXPECT_NE(layout.error().text.find("2 cache groups need at least one slab"), std::string::npos)
      << layout.error().text;
}

}  // namespace
}  // namespace ashlar
