// What the table of backends advertises, the bodies take. Runs without a card.

#include "kernels/attention/cuda/bodies.h"

#include <gtest/gtest.h>

#include "kernels/attention/cuda/decode.h"
#include "kernels/attention/cuda/prefill.h"

namespace ashlar {
namespace {

// One layer's pages as the need says, K and V at aligned places.
PagedView pages_of(const AttentionNeed& need) {
  return {.v_offset_bytes =
              int64_t{need.kv_heads} * need.page_tokens * need.k_dim * size_of(need.pages),
          .page_tokens = need.page_tokens,
          .kv_heads = need.kv_heads,
          .k_dim = need.k_dim,
          .v_dim = need.v_dim,
          .dtype = need.pages,
          .scales_offset_bytes = need.token_scales ? int64_t{1} << 20 : int64_t{-1}};
}

void expect_taken(const AttentionBackend& row, const AttentionNeed& need, int* n_taken) {
  const Device card{.kind = Device::Kind::cuda, .sm = 90};
  if (!refusal(row, card, need).empty()) return;
  const CudaAttentionBody body = cuda_attention_body(row);
  const AttnShape shape{.heads = need.heads,
                        .kv_heads = need.kv_heads,
                        .k_dim = need.k_dim,
                        .v_dim = need.v_dim,
                        .window = need.window,
                        .causal = need.causal};
  const Status takes = body.takes(shape, pages_of(need), need.query);
  ASSERT_TRUE(takes) << row.name << ", " << to_text(need) << ": " << takes.error().text;
  EXPECT_GE(body.tiling(shape, pages_of(need), need.query, need.step).rows, 16);
  EXPECT_NE(body.run, nullptr);
  ++*n_taken;
}

TEST(CudaBodies, TakeWhatTheTableSays) {
  constexpr DType kTypes[] = {DType::bf16, DType::f16, DType::f8e4m3, DType::f8e5m2};
  constexpr Widths kWidths[] = {{48, 32},   {64, 64},   {80, 80},   {96, 96},
                                {128, 128}, {192, 128}, {256, 256}, {20, 12}};
  for (const AttentionBackend& row : attention_backends()) {
    if (row.form != AttentionForm::heads || row.least.kind != Device::Kind::cuda) continue;
    int n_taken = 0;
    for (const Widths& widths : kWidths) {
      for (const DType query : {DType::bf16, DType::f16}) {
        for (const DType pages : kTypes) {
          for (const int32_t tokens : {16, 32, 64, 128}) {
            for (int bits = 0; bits < 16; ++bits) {
              AttentionNeed need{.heads = 16, .kv_heads = 2, .k_dim = widths.k, .v_dim = widths.v};
              need.query = query, need.pages = pages, need.page_tokens = tokens;
              need.step = (bits & 1) != 0 ? StepForm::prefill : StepForm::decode;
              need.window = (bits & 2) != 0 ? 128 : 0;
              need.causal = (bits & 4) == 0;
              need.token_scales = (bits & 8) != 0 && is_f8(pages);
              expect_taken(row, need, &n_taken);
            }
          }
        }
      }
    }
    EXPECT_GT(n_taken, 0) << row.name;
  }
}

// Pages of 192/128 in bf16, one layer's.
PagedView plain_pages(int32_t kv_heads) {
  return pages_of({.heads = kv_heads, .kv_heads = kv_heads, .k_dim = 192, .v_dim = 128});
}

TEST(CudaBodies, MmaRefusesWhatItCannotTake) {
  const AttnShape shape{.heads = 4, .kv_heads = 2, .k_dim = 192, .v_dim = 128};
  const PagedView kv = plain_pages(2);
  EXPECT_TRUE(mma_takes(shape, kv, DType::bf16));
  EXPECT_FALSE(mma_takes(shape, kv, DType::f32));
  EXPECT_FALSE(mma_takes(shape, kv, DType::f16));
  AttnShape odd = shape;
  odd.v_dim = 120;
  EXPECT_FALSE(mma_takes(odd, kv, DType::bf16));
  for (const int32_t page_tokens : {8, 24, 100}) {
    PagedView other = kv;
    other.page_tokens = page_tokens;
    EXPECT_FALSE(mma_takes(shape, other, DType::bf16)) << page_tokens;
  }
  PagedView shifted = kv;
  shifted.v_offset_bytes += 8;
  EXPECT_FALSE(mma_takes(shape, shifted, DType::bf16));
}

TEST(CudaBodies, WgmmaSaysWhyNot) {
  const AttnShape shape{.heads = 4, .kv_heads = 1, .k_dim = 192, .v_dim = 128};
  const PagedView kv = plain_pages(1);
  EXPECT_TRUE(wgmma_takes(shape, kv, DType::bf16));
  EXPECT_FALSE(wgmma_takes(shape, kv, DType::f16));
  PagedView other = kv;
  other.page_tokens = 48;
  EXPECT_NE(wgmma_takes(shape, other, DType::bf16).error().text.find("48"), std::string::npos);
  other = kv;
  other.v_offset_bytes += 8;
  EXPECT_FALSE(wgmma_takes(shape, other, DType::bf16));
  other = kv;
  other.dtype = DType::f8e4m3;
  EXPECT_TRUE(wgmma_takes(shape, other, DType::bf16));
  EXPECT_FALSE(wgmma_takes(shape, other, DType::f16));
  other.scales_offset_bytes = 0;
  EXPECT_TRUE(wgmma_takes(shape, other, DType::bf16));
  other.dtype = DType::f8e5m2;
  EXPECT_NE(wgmma_takes(shape, other, DType::bf16).error().text.find("scales"), std::string::npos);
}

TEST(CudaBodies, DecodeSaysWhyNot) {
  const AttnShape shape{.heads = 4, .kv_heads = 1, .k_dim = 192, .v_dim = 128};
  const PagedView kv = plain_pages(1);
  EXPECT_TRUE(decode_takes(shape, kv, DType::bf16));
  EXPECT_FALSE(decode_takes(shape, kv, DType::f16));
  PagedView other = kv;
  other.k_offset_bytes = 8;
  EXPECT_NE(decode_takes(shape, other, DType::bf16).error().text.find("K at byte 8"),
            std::string::npos);
  AttnShape odd = shape;
  odd.k_dim = odd.v_dim = 96;
  EXPECT_NE(decode_takes(odd, kv, DType::bf16).error().text.find("96/96"), std::string::npos);
}

}  // namespace
}  // namespace ashlar
