// Planned equals allocated: caches of every published geometry, in both layouts, filled with
// sequences until no more is promised, hold the closed form's pages, to the byte.

#include <gtest/gtest.h>

#include <deque>
#include <numeric>

#include "base/checked.h"
#include "kv/cache.h"
#include "kv/plan_testing.h"
#include "kv/uniform_cache.h"

namespace ashlar {
namespace {

constexpr int64_t kPlenty = int64_t{512} << 30;

CacheOptions options_of(const StepShape& shape) {
  return {.slack_tokens = shape.slack_tokens, .state_slots = shape.state_slots};
}

// Sequences of n_tokens, computed in steps up to the last token, for which pages are reserved.
// Where n_tokens begins a block, that is the moment at which windows straddle the most.
void fill(Cache* cache, int32_t n_tokens, const StepShape& shape, std::deque<Tables>* sequences) {
  while (cache->has_room(n_tokens, shape.step_tokens)) {
    Tables* tables = &sequences->emplace_back();
    while (tables->n_tokens < n_tokens - 1) {
      const int32_t end = std::min(n_tokens - 1, tables->n_tokens + shape.step_tokens);
      ASSERT_TRUE(cache->reserve(tables, end));
      cache->commit(tables, end);
    }
    ASSERT_TRUE(cache->reserve(tables, n_tokens, shape.state_slots));
  }
}

// Pages and bytes by group, and how many sequences there are, against the closed forms.
void expect_planned(const Cache& cache, int32_t n_tokens, const StepShape& shape,
                    int64_t n_sequences) {
  const ArenaLayout& layout = cache.arena().layout();
  const PlanPoint point = plan_point(cache.groups(), layout, n_tokens, shape);
  EXPECT_EQ(n_sequences, point.n_sequences);
  int64_t used = 0;
  for (size_t g = 0; g < cache.groups().size(); ++g) {
    EXPECT_EQ(cache.held_pages(g), n_sequences * point.pages[g]) << "group " << g;
    EXPECT_EQ(cache.held_pages(g) * layout.groups[g].page_bytes,
              n_sequences * point.group_bytes[g]);
    EXPECT_EQ(cache.cached_pages(g), 0);
    used += n_sequences * point.group_bytes[g];
  }
  EXPECT_EQ(cache.unused_bytes(), layout.arena_bytes() - used);
}

// The layout in as much memory as some sequences of n_tokens need.
Result<CacheLayout> arena_for(const PublishedMix& mix, int32_t n_tokens) {
  const auto pages = sequence_pages(mix.groups, n_tokens, mix.shape());
  int64_t bytes = 0;
  for (size_t g = 0; g < pages.size(); ++g) bytes += pages[g] * mix.groups[g].page_bytes();
  return arena_cache_layout(mix.groups, 5 * bytes);
}

UniformPlanOptions uniform_of(const PublishedMix& mix, int64_t memory_bytes, int32_t pack) {
  return {.memory_bytes = memory_bytes,
          .step_tokens = mix.shape().step_tokens,
          .pack = pack,
          .speculative = mix.shape().slack_tokens};
}

// Blocks as the reference counts them: ours are as many, and no request holds more of a group than
// it says; where every token is kept, exactly as many.
void expect_reference(const PublishedMix& mix, const Cache& cache,
                      const UniformPlanOptions& options, int32_t n_tokens, int64_t n_sequences) {
  const auto layers = uniform_layers(mix.models(), options);
  ASSERT_TRUE(layers);
  UniformOptions pool = uniform_options(*layers, options);
  pool.max_model_len = 1;
  const auto uniform = uniform_layout(*layers, options.memory_bytes, pool);
  ASSERT_TRUE(uniform) << uniform.error().text;
  EXPECT_EQ(cache.arena().layout().n_slabs, uniform->n_blocks);
  EXPECT_EQ(cache.arena().layout().slab_bytes, block_bytes(uniform->groups));
  UniformLimits limits = pool.limits();
  limits.max_model_len = n_tokens;
  limits.max_in_flight_tokens = 1 + options.speculative;
  const auto capacity = uniform_capacity(*uniform, limits);
  ASSERT_TRUE(capacity);
  for (size_t g = 0; g < cache.groups().size(); ++g) {
    const int64_t blocks = cache.held_pages(g) / cache.arena().layout().groups[g].pages_per_slab;
    const int64_t most = n_sequences * capacity->blocks_per_request[g];
    EXPECT_LE(blocks, most) << "group " << g;
    if (kind_row(cache.groups()[g].kind).needs_all) {
      EXPECT_EQ(blocks, most) << "group " << g;
    }
    EXPECT_EQ(cache.arena().leased_slabs(g), blocks) << "group " << g;
  }
}

TEST(Fill, AnArenaHoldsWhatThePlanSays) {
  for (const PublishedMix& mix : published_mixes()) {
    SCOPED_TRACE(mix.specs[0].model_type);
    for (const int32_t n_tokens : {16 + 1, 16 * 70 + 1}) {
      auto layout = arena_for(mix, n_tokens);
      ASSERT_TRUE(layout) << layout.error().text;
      auto cache = Cache::create(*std::move(layout), options_of(mix.shape()));
      ASSERT_TRUE(cache) << cache.error().text;
      std::deque<Tables> sequences;
      fill(&*cache, n_tokens, mix.shape(), &sequences);
      EXPECT_GT(sequences.size(), 1u);
      expect_planned(*cache, n_tokens, mix.shape(), std::ssize(sequences));
    }
  }
}

// Layers lie one after another in a page, and inside it; a page lies inside its block.
void expect_apart(const Cache& cache) {
  const ArenaLayout& layout = cache.arena().layout();
  for (size_t g = 0; g < cache.groups().size(); ++g) {
    const CacheGroup& group = cache.groups()[g];
    const GroupLayout& place = layout.groups[g];
    EXPECT_GE(layout.slab_remainder(g), 0);
    EXPECT_GE(place.page_bytes, place.page_data_bytes);
    int64_t end = 0;
    for (int64_t i = 0; group.has_tokens() && i < group.n_layers(); ++i) {
      const PagedView view = cache.view(g, i);
      EXPECT_GE(view.k_offset_bytes, end);
      EXPECT_EQ(view.v_offset_bytes, view.k_offset_bytes + group.row(i).k_bytes());
      end = view.k_offset_bytes + group.row(i).layer_bytes();
    }
    EXPECT_LE(end, place.page_bytes);
  }
}

TEST(Fill, AUniformPoolHoldsWhatThePlanSays) {
  int n_run = 0;
  for (const PublishedMix& mix : published_mixes()) {
    SCOPED_TRACE(mix.specs[0].model_type);
    for (const int32_t pack : {1, 2}) {
      auto layout = uniform_cache_layout(mix.models(), uniform_of(mix, kPlenty, pack));
      if (!layout) {
        EXPECT_EQ(layout.error().code, Code::unsupported) << layout.error().text;
        continue;
      }
      ++n_run;
      int32_t block = 1;
      for (const CacheGroup& group : layout->groups) block = std::lcm(block, group.page_tokens);
      const int32_t n_tokens = static_cast<int32_t>(round_up(600, block)) + 1;
      const int64_t n_slabs =
          slabs_needed(layout->arena, sequence_pages(layout->groups, n_tokens, mix.shape()));
      const UniformPlanOptions options =
          uniform_of(mix, (5 * n_slabs + 3) * layout->arena.slab_bytes + 100, pack);
      layout = uniform_cache_layout(mix.models(), options);
      ASSERT_TRUE(layout) << layout.error().text;
      auto cache = Cache::create(*std::move(layout), options_of(mix.shape()));
      ASSERT_TRUE(cache) << cache.error().text;
      EXPECT_EQ(cache->block_tokens(), block);
      expect_apart(*cache);
      std::deque<Tables> sequences;
      fill(&*cache, n_tokens, mix.shape(), &sequences);
      EXPECT_GT(sequences.size(), 1u);
      expect_planned(*cache, n_tokens, mix.shape(), std::ssize(sequences));
      expect_reference(mix, *cache, options, n_tokens, std::ssize(sequences));
    }
  }
  EXPECT_GT(n_run, 60);
}

// 9 full and 39 window layers become 1 + 5 groups; full blocks are twice as long.
TEST(Fill, UniformGroupsAreTheReferences) {
  const PublishedMix mix("mimo-v2-flash.json");
  const auto layout = uniform_cache_layout(mix.models(), uniform_of(mix, int64_t{60} << 30, 1));
  ASSERT_TRUE(layout) << layout.error().text;
  EXPECT_EQ(layout->arena.n_slabs, 87381);
  std::vector<int64_t> layers;
  for (const CacheGroup& group : layout->groups) {
    layers.push_back(group.n_layers());
    EXPECT_EQ(group.page_tokens, group.kind == LayerKind::full ? 32 : 16);
  }
  EXPECT_EQ(layers, (std::vector<int64_t>{9, 8, 8, 8, 8, 7}));
  EXPECT_EQ(layout->groups[1].layers[1] - layout->groups[1].layers[0], 6);  // dealt round robin
  const ArenaLayout& arena = layout->arena;
  EXPECT_EQ(arena.slab_bytes, 9 * 81920);
  EXPECT_EQ(arena.slab_remainder(0), 0);
  EXPECT_EQ(arena.slab_remainder(5), 2 * 81920);  // two tensors without a layer
  EXPECT_EQ(arena.groups[5].page_bytes, arena.groups[5].page_data_bytes);
}

// What is padded and what stays empty is in the layout, as bytes.
TEST(Fill, UniformPaddingIsVisible) {
  const PublishedMix mix("mimo-v2.5.json", "mimo-v2.5-dflash.json");
  const auto layout = uniform_cache_layout(mix.models(), uniform_of(mix, int64_t{60} << 30, 1));
  ASSERT_TRUE(layout) << layout.error().text;
  int64_t padding = 0;
  for (size_t g = 0; g < layout->groups.size(); ++g) {
    const GroupLayout& place = layout->arena.groups[g];
    padding += place.page_bytes - place.page_data_bytes;
  }
  EXPECT_GT(padding, 0);
}

// Latents and a draft's K and V keep the same tokens: one group of the reference, in whose blocks
// every layer has a page of its own size.
TEST(Fill, RowsOfDifferentShapesShareABlock) {
  const PublishedMix mix("deepseek-v3-r1.json", "qwen3-8b-dflash-b16.json");
  const auto layout = uniform_cache_layout(mix.models(), uniform_of(mix, int64_t{60} << 30, 1));
  ASSERT_TRUE(layout) << layout.error().text;
  ASSERT_EQ(layout->groups.size(), 1u);
  const CacheGroup& group = layout->groups[0];
  ASSERT_EQ(group.rows.size(), 61u + 5u);
  for (int64_t i = 0; i < group.n_layers(); ++i) {
    EXPECT_EQ(group.layers[static_cast<size_t>(i)], i);
    EXPECT_EQ(group.row(i).layer_bytes(), 16 * (i < 61 ? 576 : 8 * (128 + 128)) * 2);
  }
  const int64_t block = 16 * 2 * (61 * 576 + 5 * 8 * 256);
  EXPECT_EQ(layout->arena.groups[0].page_data_bytes, block);
  EXPECT_EQ(layout->arena.slab_bytes, round_up(block, 256));
  EXPECT_EQ(layout->arena.n_slabs, (int64_t{60} << 30) / block);
}

TEST(Fill, WhatTheUniformPoolCannotRunIsRefused) {
  const PublishedMix plain("mimo-v2-flash.json");
  const auto small = uniform_cache_layout(plain.models(), uniform_of(plain, 1 << 20, 1));
  ASSERT_FALSE(small);
  EXPECT_EQ(small.error().code, Code::exhausted);
}

TEST(Fill, PageLengthsWithoutACommonBlockAreRefused) {
  std::vector<CacheGroup> groups(3, {.layers = {0}, .kv_heads = 1, .k_dim = 8, .v_dim = 8});
  groups[1].page_tokens = 1009;
  groups[2].page_tokens = 1013;
  const auto cache = Cache::create(groups, 1 << 24);
  ASSERT_FALSE(cache);
  EXPECT_EQ(cache.error().code, Code::unsupported);
}

}  // namespace
}  // namespace ashlar
