#include "kv/kinds.h"

#include <gtest/gtest.h>

#include "base/checked.h"

namespace ashlar {
namespace {

CacheGroup group(LayerKind kind, int32_t reach = 0, int32_t page_tokens = 16) {
  CacheGroup g{.kind = kind, .layers = {0, 1, 2}, .kv_heads = 1, .k_dim = 8, .v_dim = 8};
  g.page_tokens = page_tokens;
  if (kind == LayerKind::window) g.window = reach;
  if (kind == LayerKind::chunk) g.chunk = reach;
  return g;
}

TEST(Kinds, WhatAResumeReads) {
  struct Case {
    CacheGroup group;
    int32_t n, first, first_page, last_page;
  };
  using enum LayerKind;
  const Case cases[] = {
      {group(full), 40, 0, 0, 3},        {group(latent), 48, 0, 0, 3},
      {group(window, 20), 40, 21, 1, 3}, {group(window, 20), 10, 0, 0, 1},
      {group(window, 17), 48, 32, 2, 3}, {group(window, 18), 48, 31, 1, 3},
      {group(window, 1), 48, 48, 3, 3},  {group(window, 1), 47, 47, 2, 3},
      {group(chunk, 64), 63, 0, 0, 4},   {group(chunk, 64), 64, 64, 4, 4},
      {group(chunk, 64), 65, 64, 4, 5},  {group(chunk, 40), 80, 80, 5, 5},
      {group(chunk, 40), 79, 40, 2, 5},  {group(state), 48, 48, 3, 3},
  };
  for (const Case& c : cases) {
    EXPECT_EQ(first_needed(c.group, c.n), c.first) << name(c.group.kind) << c.n;
    EXPECT_EQ(resume_blocks(c.group, c.n).first, c.first_page) << name(c.group.kind) << c.n;
    EXPECT_EQ(resume_blocks(c.group, c.n).last, c.last_page) << name(c.group.kind) << c.n;
  }
}

// The closed form is reached, and never passed, by sequences computed in any steps.
TEST(Kinds, MostPagesIsTheMaximum) {
  using enum LayerKind;
  for (const CacheGroup& g :
       {group(full), group(window, 20), group(window, 1), group(window, 33, 1), group(chunk, 64),
        group(chunk, 40), group(chunk, 7, 4)}) {
    for (const int32_t step : {1, 5, 16, 50}) {
      int64_t most = 0;
      for (int32_t offset = 0; offset < step; ++offset) {  // the first step may be shorter
        for (int32_t n = 0; n + step <= 448; n += n == 0 && offset > 0 ? offset : step) {
          const int32_t first = first_needed(g, n) / g.page_tokens;
          most = std::max(most, ceil_div(n + step, g.page_tokens) - first);
        }
      }
      const int64_t closed = most_pages(g, 448, {.step_tokens = step});
      EXPECT_LE(most, closed) << name(g.kind) << " step " << step;
      EXPECT_GE(most + (g.chunk % g.page_tokens != 0), closed) << name(g.kind) << " step " << step;
    }
  }
  EXPECT_EQ(most_pages(group(state), 1000, {.step_tokens = 8}), 3);
  EXPECT_EQ(most_pages(group(state), 1000, {.step_tokens = 8, .state_slots = 4}), 15);
  EXPECT_EQ(most_pages(group(window, 20), 10, {.step_tokens = 8}), 1);
}

}  // namespace
}  // namespace ashlar
