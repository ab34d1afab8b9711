// Every instruction set against the reference, over shapes, masks, dtypes and odd values.

#include <gtest/gtest.h>

#include "kernels/attention/attention_testing.h"

namespace ashlar {
namespace {

// f32: rounding of sums in another order. bf16: q is rounded in the reference too, so what remains
// is the rounding of probabilities, 2^-9 each and at random.
double bound(const AttnCase& c, Isa isa) {
  return c.compute == DType::bf16 && isa == Isa::avx512_bf16 ? 3e-3 : 3e-6;
}

void expect_reference(const AttnCase& c, int32_t page_tokens) {
  const std::vector<float> expected = run_attention(attention_ref, c, page_tokens);
  for (const Isa isa : available_isas()) {
    const std::vector<float> actual = run_attention(attention_cpu(isa), c, page_tokens);
    EXPECT_LT(relative_error(actual, expected), bound(c, isa)) << name(isa) << " " << text(c);
  }
}

constexpr DType kDTypes[] = {DType::f32, DType::bf16, DType::f16, DType::f8e4m3, DType::f8e5m2};

TEST(Attention, WidthsAndDTypes) {
  Random random(1);
  const int32_t widths[][2] = {{192, 128}, {48, 32}, {64, 64}, {128, 128}, {256, 256}, {40, 24},
                               {20, 12},   {1, 1},   {7, 3},   {33, 17},   {9, 65},    {80, 112}};
  for (const auto& [k_dim, v_dim] : widths) {
    for (const DType dtype : kDTypes) {
      const AttnShape shape{.heads = 4, .kv_heads = 2, .k_dim = k_dim, .v_dim = v_dim};
      expect_reference(random_case(shape, {{1, 70}, {9, 33}, {1, 1}}, dtype, random), 16);
    }
  }
}

TEST(Attention, Groups) {
  Random random(2);
  for (const int32_t group : {1, 2, 3, 4, 7, 8, 16, 64}) {
    const AttnShape shape{.heads = 2 * group, .kv_heads = 2, .k_dim = 40, .v_dim = 24};
    for (const DType dtype : {DType::bf16, DType::f32}) {
      expect_reference(
          random_case(shape, {{1, 130}, {67, 100}, {3, 3}, {0, 5}, {0, 0}}, dtype, random), 16);
    }
  }
}

TEST(Attention, Windows) {
  Random random(3);
  for (const int32_t window : {1, 17, 128, 1000}) {
    for (const bool causal : {true, false}) {
      const AttnShape shape{
          .heads = 6, .kv_heads = 2, .k_dim = 48, .v_dim = 32, .window = window, .causal = causal};
      for (const DType dtype : kDTypes) {
        expect_reference(random_case(shape, {{1, 700}, {65, 300}, {5, 5}, {1, 513}}, dtype, random),
                         16);
      }
    }
  }
}

TEST(Attention, WithoutACausalMaskEveryRowSeesAll) {
  Random random(4);
  const AttnShape shape{
      .heads = 8, .kv_heads = 2, .k_dim = 64, .v_dim = 64, .window = 0, .causal = false};
  for (const DType dtype : kDTypes) {
    expect_reference(random_case(shape, {{8, 600}, {8, 8}, {1, 3}}, dtype, random), 16);
  }
}

TEST(Attention, Sinks) {
  Random random(5);
  const AttnShape shape{.heads = 8, .kv_heads = 2, .k_dim = 48, .v_dim = 32, .window = 128};
  for (const DType dtype : kDTypes) {
    AttnCase c = random_case(shape, {{1, 1200}, {20, 90}}, dtype, random);
    c.sinks = {0.0f, 1.0f, -1.0f, 5.0f, -50.0f, -1e30f, 20.0f, 3.0f};
    expect_reference(c, 16);
  }
}

TEST(Attention, AHugeSinkTakesEverything) {
  Random random(6);
  const AttnShape shape{.heads = 4, .kv_heads = 2, .k_dim = 48, .v_dim = 32};
  AttnCase c = random_case(shape, {{2, 90}}, DType::bf16, random);
  c.sinks = {1e4f, 1e30f, 300.0f, 1e9f};
  for (const Isa isa : available_isas()) {
    for (const float value : run_attention(attention_cpu(isa), c)) EXPECT_EQ(value, 0.0f);
  }
}

TEST(Attention, Softcap) {
  Random random(7);
  const AttnShape shape{.heads = 8, .kv_heads = 2, .k_dim = 64, .v_dim = 40};
  for (const float softcap : {50.0f, 1.5f}) {
    for (const DType dtype : kDTypes) {
      AttnCase c = random_case(shape, {{1, 600}, {20, 90}}, dtype, random);
      c.softcap = softcap;
      expect_reference(c, 16);
    }
  }
}

TEST(Attention, LargeScoresDoNotOverflow) {
  Random random(8);
  const AttnShape shape{.heads = 4, .kv_heads = 1, .k_dim = 64, .v_dim = 32};
  AttnCase c = random_case(shape, {{1, 700}, {70, 70}}, DType::f32, random);
  c.scale = 40.0f;  // scores of several hundred: all but one key vanish
  const std::vector<float> expected = run_attention(attention_ref, c);
  for (const Isa isa : available_isas()) {
    // A score of 1000 carries an error of 1000 ulps of 1.
    EXPECT_LT(relative_error(run_attention(attention_cpu(isa), c), expected), 3e-4) << name(isa);
  }
}

// bf16 pages computed in float: what a machine without bf16 products, or a user, asks for.
TEST(Attention, F32ComputeOnNarrowPages) {
  Random random(9);
  const AttnShape shape{.heads = 16, .kv_heads = 1, .k_dim = 192, .v_dim = 128};
  AttnCase c = random_case(shape, {{1, 1100}, {6, 70}}, DType::bf16, random);
  c.compute = DType::f32;
  const std::vector<float> expected = run_attention(attention_ref, c);
  for (const Isa isa : available_isas()) {
    EXPECT_LT(relative_error(run_attention(attention_cpu(isa), c), expected), 3e-6) << name(isa);
  }
}

TEST(Attention, LongContextsOfManySplits) {
  Random random(10);
  const AttnShape shape{.heads = 16, .kv_heads = 1, .k_dim = 48, .v_dim = 32};
  for (const DType dtype : {DType::bf16, DType::f32}) {
    AttnCase c = random_case(shape, {{1, 3000}, {3, 1024}, {1, 1025}, {2, 513}}, dtype, random);
    c.sinks = random.normal(16);
    expect_reference(c, 64);
  }
}

// Every scale form, width, group and page against the reference, which dequantises.
TEST(Attention, EightBitPages) {
  Random random(12);
  const int32_t widths[][2] = {{64, 64}, {96, 96}, {128, 128}, {192, 128}, {48, 32}, {32, 32}};
  int round = 0;
  for (const auto& [k_dim, v_dim] : widths) {
    for (const int32_t group : {1, 2, 8, 16}) {
      for (const int32_t page_tokens : {16, 32, 64}) {
        const int32_t windows[] = {0, page_tokens - 1, page_tokens, page_tokens + 1};
        const AttnShape shape{.heads = 2 * group,
                              .kv_heads = 2,
                              .k_dim = k_dim,
                              .v_dim = v_dim,
                              .window = windows[round % 4]};
        AttnCase c = random_case(shape, {{1, page_tokens + 1}, {3, 2 * page_tokens}, {1, 130}},
                                 round % 3 == 0 ? DType::f8e5m2 : DType::f8e4m3, random);
        c.k_scale = 0.02f, c.v_scale = 0.5f;
        c.token_scales = round % 2 > 0;
        if (round % 5 == 0) c.sinks = random.normal(shape.heads);
        if (round % 7 == 0) c.softcap = 5.0f;
        if (round % 11 == 0) c.compute = DType::f32;
        expect_reference(c, page_tokens);
        ++round;
      }
    }
  }
}

TEST(Attention, RandomShapes) {
  Random random(11);
  for (int i = 0; i < 30; ++i) {
    const auto kv_heads = static_cast<int32_t>(random.integer(1, 3));
    const AttnShape shape{
        .heads = kv_heads * static_cast<int32_t>(random.integer(1, 20)),
        .kv_heads = kv_heads,
        .k_dim = static_cast<int32_t>(random.integer(1, 70)),
        .v_dim = static_cast<int32_t>(random.integer(1, 70)),
        .window = static_cast<int32_t>(random.integer(0, 1) * random.integer(1, 300)),
        .causal = random.integer(0, 3) > 0};
    std::vector<SeqLength> lengths;
    for (int64_t n = random.integer(1, 4); n > 0; --n) {
      const auto q_len = static_cast<int32_t>(random.integer(0, 1) ? 1 : random.integer(0, 40));
      lengths.push_back({q_len, q_len + static_cast<int32_t>(random.integer(0, 600))});
    }
    AttnCase c = random_case(shape, lengths, kDTypes[random.integer(0, 4)], random);
    if (random.integer(0, 1)) c.sinks = random.normal(shape.heads, 3.0f);
    if (random.integer(0, 3) == 0) c.softcap = 10.0f;
    if (is_f8(c.dtype)) c.token_scales = random.integer(0, 1) > 0;
    if (is_f8(c.dtype)) c.k_scale = 0.01f, c.v_scale = 3.0f;
    expect_reference(c, static_cast<int32_t>(random.integer(1, 70)));
  }
}

TEST(Attention, RoofCountsVisiblePairsAndBytesOnce) {
  const AttnShape shape{.heads = 8, .kv_heads = 2, .k_dim = 6, .v_dim = 4, .window = 4};
  const AttnSeq seqs[] = {{.q_len = 3, .kv_len = 5}, {.q_begin = 3, .kv_len = 9}};
  const AttnPlan plan = plan_attention(shape, seqs, 2);
  const AttnParams params{.kv = {.dtype = DType::bf16}};
  // Rows at 2, 3, 4 see 3, 4, 4 keys; together tokens 0 to 4.
  EXPECT_EQ(roof(plan, params).flops, 11 * 8 * 2 * 10);
  EXPECT_EQ(roof(plan, params).bytes, 5 * 2 * 10 * 2 + 3 * 8 * 10 * 4);
}

}  // namespace
}  // namespace ashlar
