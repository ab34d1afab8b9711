// Bit for bit: a row's result depends on its own query, keys and values and on nothing else.

#include <gtest/gtest.h>

#include "kernels/attention/attention_testing.h"

namespace ashlar {
namespace {

struct Variant {
  int32_t group;
  int32_t window;
  DType dtype;
};

// Groups that fill quads and that do not, with and without windows, both kinds of arithmetic.
constexpr Variant kVariants[] = {{1, 0, DType::bf16},    {4, 17, DType::bf16}, {7, 0, DType::bf16},
                                 {16, 128, DType::bf16}, {3, 0, DType::f32},   {16, 40, DType::f16},
                                 {4, 17, DType::f8e4m3}, {7, 0, DType::f8e5m2}};

AttnCase variant_case(const Variant& variant, std::vector<SeqLength> lengths, Random& random) {
  const AttnShape shape{.heads = 2 * variant.group,
                        .kv_heads = 2,
                        .k_dim = 40,
                        .v_dim = 24,
                        .window = variant.window};
  AttnCase c = random_case(shape, std::move(lengths), variant.dtype, random);
  c.sinks = random.normal(shape.heads);
  c.token_scales = variant.dtype == DType::f8e4m3;
  return c;
}

TEST(AttentionLaws, ABatchOfOneEqualsABatchOfMany) {
  Random random(1);
  for (const Variant& variant : kVariants) {
    const AttnCase all =
        variant_case(variant, {{1, 1300}, {5, 40}, {1, 1}, {70, 600}, {1, 64}}, random);
    for (const Isa isa : available_isas()) {
      const std::vector<float> together = run_attention(attention_cpu(isa), all);
      std::vector<float> alone;
      for (size_t i = 0; i < all.lengths.size(); ++i) {
        const AttnCase one = chunk_of(all, i, 0, all.lengths[i].q_len);
        const std::vector<float> out = run_attention(attention_cpu(isa), one);
        alone.insert(alone.end(), out.begin(), out.end());
      }
      EXPECT_EQ(together, alone) << name(isa) << " " << text(all);
    }
  }
}

TEST(AttentionLaws, APrefillEqualsItsChunks) {
  Random random(2);
  for (const Variant& variant : kVariants) {
    const AttnCase whole = variant_case(variant, {{70, 540}}, random);
    for (const Isa isa : available_isas()) {
      const std::vector<float> expected = run_attention(attention_cpu(isa), whole, 16, 1);
      for (const int32_t chunk : {1, 7, 64}) {
        std::vector<float> actual;
        for (int32_t begin = 0; begin < 70; begin += chunk) {
          const AttnCase part = chunk_of(whole, 0, begin, std::min(70, begin + chunk));
          const std::vector<float> out = run_attention(attention_cpu(isa), part, 16, 1);
          actual.insert(actual.end(), out.begin(), out.end());
        }
        EXPECT_EQ(actual, expected) << name(isa) << " chunks of " << chunk << " " << text(whole);
      }
    }
  }
}

TEST(AttentionLaws, PageSizesAndPlacesDoNotMatter) {
  Random random(3);
  for (const Variant& variant : kVariants) {
    const AttnCase c = variant_case(variant, {{1, 1100}, {33, 90}, {2, 65}}, random);
    for (const Isa isa : available_isas()) {
      const std::vector<float> expected = run_attention(attention_cpu(isa), c, 1100);
      for (const int32_t page_tokens : {1, 5, 16, 64, 100}) {
        EXPECT_EQ(run_attention(attention_cpu(isa), c, page_tokens), expected)
            << name(isa) << " pages of " << page_tokens << " " << text(c);
      }
    }
  }
}

TEST(AttentionLaws, ThreadsDoNotMatter) {
  Random random(4);
  for (const Variant& variant : kVariants) {
    const AttnCase c = variant_case(variant, {{1, 2500}, {40, 1100}, {1, 3}}, random);
    for (const Isa isa : available_isas()) {
      const std::vector<float> expected = run_attention(attention_cpu(isa), c, 16, 1);
      for (const int n_threads : {2, 3}) {
        EXPECT_EQ(run_attention(attention_cpu(isa), c, 16, n_threads), expected)
            << name(isa) << " threads " << n_threads << " " << text(c);
      }
    }
  }
}

TEST(AttentionLaws, ALoneLongSequenceIsDividedAmongThreads) {
  const AttnShape shape{.heads = 4, .kv_heads = 1, .k_dim = 40, .v_dim = 24};
  const AttnSeq seqs[] = {{.q_len = 1, .kv_len = 2000}};
  const AttnPlan plan = plan_attention(shape, seqs, 8);
  EXPECT_EQ(plan.blocks.size(), 1u);
  EXPECT_EQ(plan.tasks.size(), 4u);  // one per split of 512
  EXPECT_EQ(plan.merges.size(), 1u);
  EXPECT_NE(to_text(plan).find("4 tasks, 1 merges"), std::string::npos) << to_text(plan);
}

TEST(AttentionLaws, APlanCoversEveryVisiblePairOnce) {
  Random random(6);
  for (int round = 0; round < 50; ++round) {
    const AttnShape shape{
        .heads = static_cast<int32_t>(2 * random.integer(1, 64)),
        .kv_heads = 2,
        .k_dim = 8,
        .v_dim = 8,
        .window = static_cast<int32_t>(random.integer(0, 1) * random.integer(1, 900))};
    std::vector<AttnSeq> seqs;
    for (int64_t n = random.integer(0, 5); n > 0; --n) {
      const auto q_len = static_cast<int32_t>(random.integer(0, 200));
      seqs.push_back(
          {.q_len = q_len, .kv_len = q_len + static_cast<int32_t>(random.integer(0, 3000))});
    }
    const AttnPlan plan = plan_attention(shape, seqs, static_cast<int>(random.integer(1, 9)));
    std::vector<int64_t> tokens(seqs.size() * 2);
    for (const AttnBlock& block : plan.blocks) {
      EXPECT_LE((block.token_end - block.token_begin) * shape.heads / 2, kMaxBlockRows);
      tokens[static_cast<size_t>(block.seq * 2 + block.kv_head)] +=
          block.token_end - block.token_begin;
    }
    for (size_t i = 0; i < tokens.size(); ++i) EXPECT_EQ(tokens[i], seqs[i / 2].q_len);
    std::vector<int32_t> reached(plan.blocks.size());
    for (size_t i = 0; i < reached.size(); ++i) reached[i] = plan.blocks[i].split_begin();
    for (const AttnTask& task : plan.tasks) {
      int32_t& split = reached[static_cast<size_t>(task.block)];
      EXPECT_EQ(task.split_begin, split);
      EXPECT_GT(task.split_end, task.split_begin);
      split = task.split_end;
    }
    for (size_t i = 0; i < reached.size(); ++i) EXPECT_EQ(reached[i], plan.blocks[i].split_end());
  }
}

}  // namespace
}  // namespace ashlar
