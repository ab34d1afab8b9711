#include <gtest/gtest.h>

#include "kernels/latent/latent_testing.h"
#include "tensor/buffer.h"

namespace ashlar {
namespace {

constexpr DType kDTypes[] = {DType::bf16, DType::f8e4m3, DType::f8e5m2, DType::f32, DType::f16};

// As attention's: f32 sums in another order, or probabilities rounded to bf16.
double bound(const LatentCase& c, Isa isa) {
  return c.rows.compute == DType::bf16 && isa == Isa::avx512_bf16 ? 3e-3 : 3e-6;
}

void expect_reference(const LatentCase& c, int32_t page_tokens) {
  const std::vector<float> expected = run_latent(latent_ref, c, page_tokens);
  for (const Isa isa : available_isas()) {
    const std::vector<float> actual = run_latent(latent_cpu(isa), c, page_tokens);
    EXPECT_LT(relative_error(actual, expected), bound(c, isa)) << name(isa) << " " << text(c);
  }
}

TEST(Latent, WidthsAndDTypes) {
  Random random(1);
  const LatentShape shapes[] = {{4, 512, 64}, {3, 256, 32}, {8, 64, 16}, {5, 48, 16},
                                {2, 40, 0},   {3, 33, 7},   {1, 1, 1},   {7, 20, 3}};
  for (const LatentShape& shape : shapes) {
    for (const DType dtype : kDTypes) {
      LatentCase c = random_latents(shape, {{1, 70}, {9, 33}, {1, 1}}, dtype, random);
      expect_reference(c, 16);
      if (!is_f8(dtype)) continue;
      c.rows.token_scales = true;
      expect_reference(c, 16);
    }
  }
}

TEST(Latent, EveryNumberOfHeads) {
  Random random(2);
  for (const int32_t heads : {1, 2, 16, 63, 64, 65, 67, 96, 100, 128}) {
    for (const DType dtype : {DType::bf16, DType::f8e4m3, DType::f32}) {
      expect_reference(
          random_latents({heads, 48, 16}, {{1, 80}, {4, 9}, {0, 5}, {0, 0}}, dtype, random), 16);
    }
  }
}

TEST(Latent, LongContextsOfManySplits) {
  Random random(3);
  for (const DType dtype : {DType::bf16, DType::f8e4m3, DType::f32}) {
    expect_reference(random_latents({16, 64, 16}, {{1, 2100}, {3, 1024}, {2, 513}}, dtype, random),
                     64);
  }
}

TEST(Latent, RandomShapes) {
  Random random(4);
  for (int i = 0; i < 15; ++i) {
    const LatentShape shape{static_cast<int32_t>(random.integer(1, 40)),
                            static_cast<int32_t>(random.integer(1, 90)),
                            static_cast<int32_t>(random.integer(0, 40))};
    std::vector<SeqLength> lengths;
    for (int64_t n = random.integer(1, 4); n > 0; --n) {
      const auto q_len = static_cast<int32_t>(random.integer(0, 1) ? 1 : random.integer(0, 30));
      lengths.push_back({q_len, q_len + static_cast<int32_t>(random.integer(0, 600))});
    }
    const LatentCase c = random_latents(shape, lengths, kDTypes[random.integer(0, 3)], random);
    expect_reference(c, static_cast<int32_t>(random.integer(1, 70)));
  }
}

// FP8 and bf16 pages computed in float: what a machine without bf16 products, or a user, asks for.
TEST(Latent, F32ComputeOnNarrowPages) {
  Random random(5);
  for (const DType dtype : {DType::bf16, DType::f8e4m3}) {
    LatentCase c = random_latents({16, 256, 32}, {{1, 600}, {6, 70}}, dtype, random);
    c.rows.compute = DType::f32;
    const std::vector<float> expected = run_latent(latent_ref, c);
    for (const Isa isa : available_isas()) {
      EXPECT_LT(relative_error(run_latent(latent_cpu(isa), c), expected), 3e-6) << name(isa);
    }
  }
}

// Every FP8 number is read as what it is: one row per number, seen by one query that sees it alone.
TEST(Latent, AllFp8NumbersAreReadExactly) {
  constexpr int32_t kWidth = 96;
  for (const Isa isa : available_isas()) {
    for (const DType compute : {DType::bf16, DType::f32}) {
      for (int32_t first = 0; first < 256; first += kWidth) {
        alignas(64) std::byte page[kGranuleBytes] = {};
        for (int32_t i = 0; i < kWidth; ++i) {
          const int32_t number = (first + i) % 256;
          if ((number & 0x7F) != 0x7F) page[i] = static_cast<std::byte>(number);  // no NaN
        }
        const uint32_t table[] = {0};
        const AttnSeq seqs[] = {{.q_len = 1, .kv_len = 1, .pages = table}};
        const AttnPlan plan = plan_latent({.heads = 1, .latent = kWidth}, seqs, 1);
        Buffer workspace =
            Buffer::host(static_cast<size_t>(plan.workspace_bytes), "workspace").value();
        const std::vector<float> q(kWidth);
        std::vector<float> out = poisoned(kWidth);
        Pool pool(1);
        latent_cpu(isa)(plan,
                        {.q = view(q, {1, 1, kWidth}),
                         .out = view(out, {1, 1, kWidth}),
                         .kv = {.base = page,
                                .page_tokens = 1,
                                .k_dim = kWidth,
                                .dtype = DType::f8e4m3,
                                .k_scale = 0.5f},
                         .compute = compute,
                         .workspace = workspace.bytes()},
                        pool);
        for (size_t i = 0; i < kWidth; ++i) {
          EXPECT_EQ(out[i], to_float(F8E4M3{static_cast<uint8_t>(page[i])}) * 0.5f)
              << name(isa) << " " << static_cast<int>(page[i]);
        }
      }
    }
  }
}

TEST(Latent, AnFp8NanSpreadsAsEveryNanDoes) {
  Random random(6);
  LatentCase c = random_latents({2, 48, 16}, {{1, 20}}, DType::f8e4m3, random);
  c.rows.k[0][3 * 64 + 5] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(to_f8e4m3(std::numeric_limits<float>::quiet_NaN()).bits & 0x7F, 0x7F);
  for (const Isa isa : available_isas()) {
    for (const float value : run_latent(latent_cpu(isa), c)) EXPECT_TRUE(std::isnan(value));
  }
}

TEST(Latent, KvWriteFillsTheRows) {
  Random random(7);
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    const LatentCase c = random_latents({1, 48, 17}, {{70, 70}, {3, 3}}, dtype, random);
    const Pages expected(c.rows, 16);
    std::vector<float> rows = c.rows.k[0];
    rows.insert(rows.end(), c.rows.k[1].begin(), c.rows.k[1].end());
    const std::vector<float> none(1);
    for (const Isa isa : available_isas()) {
      std::vector<std::byte> memory(expected.memory().size(), std::byte{0xFF});
      PagedView kv = expected.view();
      kv.base = memory.data();
      Pool pool(2);
      kv_write_cpu(isa)({.k = view(rows, {73, 1, 65}),
                         .v = view(none, {73, 1, 0}),
                         .kv = kv,
                         .seqs = sequences(c.rows, expected)},
                        pool);
      EXPECT_TRUE(memory == expected.memory()) << name(isa) << " " << name(dtype);
    }
  }
}

TEST(Latent, RoofCountsRowsOnceForAllHeads) {
  const AttnSeq seqs[] = {{.q_len = 3, .kv_len = 5}, {.q_begin = 3, .kv_len = 9}};
  const AttnPlan plan = plan_latent({.heads = 128, .latent = 6, .rope = 2}, seqs, 2);
  const LatentParams params{.kv = {.dtype = DType::f8e4m3}};
  // Rows at 2, 3, 4 see 3, 4, 5 positions.
  EXPECT_EQ(roof(plan, params).flops, 12 * 128 * 2 * 14);
  EXPECT_EQ(roof(plan, params).bytes, 5 * 8 + 3 * 128 * 14 * 4);
}

}  // namespace
}  // namespace ashlar
