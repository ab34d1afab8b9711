// The plan's laws: what it says fits is what the allocator admits, its waste is bounded, and no
// published model holds fewer sequences in the arena than in the uniform pool.

#include "kv/plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "kv/arena.h"
#include "kv/plan_testing.h"
#include "kv/uniform_align.h"

namespace ashlar {
namespace {

constexpr int64_t kGiB = int64_t{1} << 30;

using Mix = PublishedMix;

ArenaLayout layout_of(const Mix& mix, int64_t memory) {
  auto layout = arena_layout(mix.groups, memory);
  CHECK(layout.has_value(), "{}", layout.error().text);
  return *std::move(layout);
}

// A span in which every group finds room for some slabs.
int64_t longest_slab(const Mix& mix) {
  int64_t bytes = kGiB / 64;
  for (const CacheGroup& group : mix.groups) {
    bytes = std::max(bytes, 16 * group.page_bytes() * (group.has_tokens() ? 1 : group.n_layers()));
  }
  return bytes;
}

// Sequences are given their pages until one is refused, in an arena that hands out real offsets.
int64_t admitted(const Mix& mix, const ArenaLayout& layout, int32_t n_tokens) {
  Arena arena(layout);
  const auto computed = sequence_pages(mix.groups, n_tokens, mix.shape());
  const auto kept = sequence_pages(mix.groups, n_tokens, resident(mix.shape()));
  for (int64_t n = 0;; ++n) {
    if (!arena.fits(computed)) return n;
    for (size_t g = 0; g < kept.size(); ++g) {
      for (int64_t i = 0; i < kept[g]; ++i) arena.allocate(g);
    }
  }
}

TEST(Plan, WhatFitsIsWhatTheAllocatorAdmits) {
  for (const Mix& mix : published_mixes()) {
    // Small, so that slab ends count.
    const ArenaLayout layout = layout_of(mix, 8 * longest_slab(mix));
    for (const int32_t n_tokens : {1, 40, 1001}) {
      EXPECT_EQ(sequences_that_fit(mix.groups, layout, n_tokens, mix.shape()),
                admitted(mix, layout, n_tokens))
          << mix.specs[0].model_type << " at " << n_tokens;
    }
  }
}

TEST(Plan, TheLongestSequenceFitsAndNoLonger) {
  for (const Mix& mix : published_mixes()) {
    const ArenaLayout layout = layout_of(mix, kGiB);
    const int32_t limit = 1 << 20;
    const int32_t longest = longest_sequence(mix.groups, layout, mix.shape(), limit);
    ASSERT_GT(longest, 0);
    EXPECT_GE(sequences_that_fit(mix.groups, layout, longest, mix.shape()), 1);
    if (longest < limit) {
      EXPECT_EQ(sequences_that_fit(mix.groups, layout, longest + 1, mix.shape()), 0);
    }
  }
}

TEST(Plan, WasteIsBounded) {
  for (const Mix& mix : published_mixes()) {
    for (const int64_t memory : {4 * kGiB, 60 * kGiB}) {
      const ArenaLayout layout = layout_of(mix, memory);
      EXPECT_LE(memory - layout.arena_bytes(), layout.slab_bytes);
      for (size_t g = 0; g < mix.groups.size(); ++g) {
        EXPECT_LE(layout.groups[g].page_bytes - layout.groups[g].page_data_bytes, 255);
        EXPECT_LE(static_cast<double>(layout.slab_remainder(g)),
                  0.005 * static_cast<double>(layout.slab_bytes))
            << mix.specs[0].model_type << " group " << g << " slab " << layout.slab_bytes
            << " page " << layout.groups[g].page_bytes;
      }
    }
  }
}

TEST(Plan, NeverFewerSequencesThanUniform) {
  const std::vector<int32_t> lengths = {1024, 8192, 131072};
  for (const Mix& mix : published_mixes()) {
    for (const int64_t memory : {16 * kGiB, 60 * kGiB}) {
      const ArenaLayout layout = layout_of(mix, memory);
      const int32_t proposed = mix.specs.size() > 1 ? mix.specs[1].draft->block_tokens - 1 : 0;
      const auto uniform =
          uniform_plan(mix.models(), lengths, {.memory_bytes = memory, .speculative = proposed});
      if (!uniform) {  // a refusal is not more
        EXPECT_EQ(uniform.error().code, Code::unsupported) << uniform.error().text;
        continue;
      }
      for (size_t i = 0; i < lengths.size(); ++i) {
        const PlanPoint point = plan_point(mix.groups, layout, lengths[i], mix.shape());
        EXPECT_GE(point.n_sequences, uniform->points[i].n_sequences)
            << mix.specs[0].model_type << " at " << lengths[i] << " in " << memory;
        EXPECT_GE(point.bytes, point.live_bytes);
        EXPECT_EQ(point.bytes,
                  std::accumulate(point.group_bytes.begin(), point.group_bytes.end(), int64_t{0}));
      }
    }
  }
}

// The block lengths that the reference computes for hybrids, known from its users' logs.
TEST(Plan, UniformBlocksOfHybridsAreTheReferences) {
  const struct {
    const char* file;
    int32_t ranks;
    DType dtype;
    int32_t speculative;
    int64_t block;
  } kCases[] = {{"qwen3.5-397b-a17b-fp8.json", 1, DType::bf16, 0, 2096},
                {"qwen3.5-397b-a17b-fp8.json", 2, DType::bf16, 0, 2096},
                {"qwen3.5-397b-a17b-fp8.json", 4, DType::bf16, 0, 1056},
                {"qwen3.5-397b-a17b-fp8.json", 8, DType::bf16, 0, 528},
                {"qwen3.5-397b-a17b-fp8.json", 2, DType::f8e4m3, 0, 4176},
                {"qwen3.5-9b.json", 1, DType::bf16, 0, 528},
                {"qwen3.5-9b.json", 2, DType::bf16, 0, 528},
                {"qwen3.5-35b-a3b.json", 1, DType::bf16, 0, 1056},
                {"qwen3.5-27b.json", 2, DType::bf16, 0, 784},
                {"kimi-linear-48b-a3b.json", 1, DType::bf16, 0, 1920},
                {"bamba-9b.json", 1, DType::bf16, 0, 1040}};
  for (const auto& test : kCases) {
    const Mix mix(test.file, "", {.dtype = test.dtype, .ranks = test.ranks});
    const auto layers = uniform_layers(mix.models(), {.speculative = test.speculative});
    ASSERT_TRUE(layers) << layers.error().text;
    for (const UniformLayer& layer : *layers) {
      EXPECT_EQ(layer.spec.block_tokens, test.block) << test.file << " on " << test.ranks;
    }
  }
}

TEST(Plan, CurveLengths) {
  EXPECT_EQ(curve_lengths(3000), (std::vector<int32_t>{1024, 2048, 3000}));
  EXPECT_EQ(curve_lengths(1024), std::vector<int32_t>{1024});
  EXPECT_EQ(curve_lengths(7), std::vector<int32_t>{7});
}

}  // namespace
}  // namespace ashlar
