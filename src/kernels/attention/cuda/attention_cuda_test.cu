// Every CUDA body against attention_ref over the contract grid. Skipped where there is no GPU.

#include <gtest/gtest.h>

#include "kernels/attention/cuda/attention_cuda_testing.cuh"
#include "kernels/attention/cuda/decode.h"

namespace ashlar {
namespace {

struct Types {
  DType pages, q;
  double tolerance;
};
// Output in bf16 alone costs 1.7e-3.
constexpr Types kTypes[] = {{DType::bf16, DType::bf16, 4e-3},
                            {DType::f16, DType::f16, 6e-4},
                            {DType::f8e4m3, DType::bf16, 3e-3},
                            {DType::f8e5m2, DType::bf16, 3e-3},
                            {DType::f8e4m3, DType::f16, 6e-4}};
constexpr std::pair<int32_t, int32_t> kWidths[] = {{64, 64},   {96, 96},   {128, 128},
                                                   {192, 128}, {256, 256}, {48, 32}};

// Around every edge of chunks, pages, tiles and splits; prompts, chunks of them, single tokens,
// sequences that take no part.
const std::vector<SeqLength> kEdges = {{1, 1},   {1, 15},  {1, 16},  {1, 17},  {1, 31},   {1, 33},
                                       {1, 63},  {1, 64},  {1, 65},  {1, 255}, {1, 256},  {1, 257},
                                       {1, 700}, {5, 40},  {70, 70}, {0, 33},  {33, 300}, {0, 0},
                                       {2, 2},   {3, 513}, {64, 129}};

class AttentionCuda : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!cuda::has_device()) GTEST_SKIP() << "no GPU here";
  }
};

bool has_decode() {
  int major = 0;
  CHECK_CUDA(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0));
  return major == 9;
}

std::vector<CudaBody> bodies(const AttnCase& c, const Types& types) {
  const AttnShape& shape = c.shape;
  std::vector<CudaBody> all = {{"plain", attention_cuda_plain, {.rows = 16}},
                               {"mma decode", attention_cuda_mma, mma_decode_tiling(shape)},
                               {"mma prefill", attention_cuda_mma, mma_prefill_tiling(shape)}};
  const PagedView kv{.page_tokens = 16, .dtype = types.pages};
  if (has_decode() && decode_takes(shape, kv, types.q))
    all.push_back({"decode", attention_cuda_decode, decode_tiling(shape)});
  return all;
}

void expect_reference(const AttnCase& c, const Types& types, int32_t page_tokens) {
  const std::vector<float> expected = reference(c, types.q);
  for (const CudaBody& body : bodies(c, types)) {
    const std::vector<float> actual = run_cuda(body, c, {.q = types.q, .page_tokens = page_tokens});
    EXPECT_LT(relative_error(actual, expected), types.tolerance)
        << body.name << " pages of " << page_tokens << " q " << name(types.q) << " " << text(c);
  }
}

TEST_F(AttentionCuda, EveryWidthTypeAndPageSize) {
  Random random(1);
  for (const auto& [k_dim, v_dim] : kWidths) {
    for (const Types& types : kTypes) {
      const AttnShape shape{.heads = 4, .kv_heads = 2, .k_dim = k_dim, .v_dim = v_dim};
      const AttnCase c = random_case(shape, kEdges, types.pages, random);
      for (const int32_t page_tokens : {16, 32, 64}) expect_reference(c, types, page_tokens);
    }
  }
}

TEST_F(AttentionCuda, Groups) {
  Random random(2);
  for (const int32_t group : {1, 2, 3, 8, 16, 20, 128}) {
    for (const Types& types : kTypes) {
      const AttnShape shape{.heads = 2 * group, .kv_heads = 2, .k_dim = 192, .v_dim = 128};
      AttnCase c = random_case(shape, {{1, 300}, {1, 1}, {17, 90}, {4, 600}}, types.pages, random);
      c.sinks = random.normal(shape.heads, 3.0f);
      expect_reference(c, types, 16);
    }
  }
}

TEST_F(AttentionCuda, WindowsWithPoisonBehind) {
  Random random(3);
  for (const int32_t window : {1, 2, 15, 16, 17, 33, 64, 100, 128, 1500}) {
    for (const Types& types : kTypes) {
      const AttnShape shape{
          .heads = 16, .kv_heads = 2, .k_dim = 128, .v_dim = 128, .window = window};
      AttnCase c = random_case(
          shape, {{1, 1}, {1, 127}, {1, 128}, {1, 129}, {1, 144}, {1, 145}, {40, 200}, {1, 1700}},
          types.pages, random);
      c.sinks = random.normal(shape.heads);
      for (const int32_t page_tokens : {16, 64}) expect_reference(c, types, page_tokens);
    }
  }
}

TEST_F(AttentionCuda, SoftcapSinksAndBlocksThatSeeAhead) {
  Random random(4);
  for (const bool causal : {true, false}) {
    for (const float softcap : {0.0f, 5.0f}) {
      for (const Types& types : kTypes) {
        for (const int32_t window : {0, 70}) {
          AttnShape shape{.heads = 8, .kv_heads = 4, .k_dim = 64, .v_dim = 64, .window = window};
          shape.causal = causal;
          AttnCase c =
              random_case(shape, {{8, 8}, {8, 600}, {1, 40}, {30, 200}}, types.pages, random);
          c.softcap = softcap;
          if (causal) c.sinks = {-3e4f, 30.0f, 0, 1, 2, -5, 0.5f, 10};
          expect_reference(c, types, 32);
        }
      }
    }
  }
}

TEST_F(AttentionCuda, ScalesOfTensorsAndOfTokens) {
  Random random(5);
  for (const Types& types : {kTypes[2], kTypes[3], kTypes[4]}) {
    for (const bool own : {false, true}) {
      for (const int32_t window : {0, 100}) {
        const AttnShape shape{
            .heads = 16, .kv_heads = 2, .k_dim = 192, .v_dim = 128, .window = window};
        AttnCase c =
            random_case(shape, {{1, 600}, {20, 90}, {1, 7}, {3, 300}}, types.pages, random);
        c.k_scale = 0.02f, c.v_scale = 0.5f, c.token_scales = own;
        for (std::vector<float>& v : c.v) {  // tokens of very different size
          const size_t width = static_cast<size_t>(2 * shape.v_dim);
          for (size_t i = 0; i < v.size(); ++i)
            v[i] *= own ? std::exp2(static_cast<float>(i / width * 7 % 23) - 11) : 1.0f;
        }
        for (const int32_t page_tokens : {16, 32}) expect_reference(c, types, page_tokens);
      }
    }
  }
}

// bf16 queries beside FP8 pages are f16: neither large nor small ones may lose their bits.
TEST_F(AttentionCuda, QueriesOfAnyMagnitudeBesideF8) {
  Random random(6);
  for (const float magnitude : {1e-20f, 1e-4f, 1e6f, 1e20f}) {
    const AttnShape shape{.heads = 16, .kv_heads = 1, .k_dim = 128, .v_dim = 128};
    AttnCase c = random_case(shape, {{1, 300}, {2, 40}}, DType::f8e4m3, random);
    for (float& q : c.q) q *= magnitude;
    c.scale /= magnitude;
    expect_reference(c, kTypes[2], 16);
  }
}

TEST_F(AttentionCuda, PagesBeyondFourGigabytes) {
  Random random(7);
  const AttnShape shape{.heads = 32, .kv_heads = 2, .k_dim = 192, .v_dim = 128};
  for (const Types& types : {kTypes[0], kTypes[2]}) {
    const AttnCase c = random_case(shape, {{1, 700}, {9, 90}}, types.pages, random);
    const std::vector<float> expected = reference(c, types.q);
    for (const CudaBody& body : bodies(c, types)) {
      const RunOptions options{.q = types.q, .bytes_before = int64_t{5} << 30};
      EXPECT_LT(relative_error(run_cuda(body, c, options), expected), types.tolerance) << body.name;
    }
  }
}

TEST_F(AttentionCuda, RefusesWhatItCannotTake) {
  const AttnShape shape{.heads = 4, .kv_heads = 2, .k_dim = 192, .v_dim = 128};
  const PagedView kv{.page_tokens = 16, .kv_heads = 2, .k_dim = 192, .v_dim = 128};
  EXPECT_TRUE(static_cast<bool>(mma_takes(shape, kv, DType::bf16)));
  EXPECT_FALSE(static_cast<bool>(mma_takes(shape, kv, DType::f32)));
  EXPECT_FALSE(static_cast<bool>(mma_takes(shape, kv, DType::f16)));
  AttnShape odd = shape;
  odd.v_dim = 120;
  EXPECT_FALSE(static_cast<bool>(mma_takes(odd, kv, DType::bf16)));
  for (const int32_t page_tokens : {8, 24, 100}) {
    PagedView other = kv;
    other.page_tokens = page_tokens;
    EXPECT_FALSE(static_cast<bool>(mma_takes(shape, other, DType::bf16))) << page_tokens;
  }
  PagedView shifted = kv;
  shifted.v_offset_bytes = 8;
  EXPECT_FALSE(static_cast<bool>(mma_takes(shape, shifted, DType::bf16)));
}

TEST_F(AttentionCuda, DecodeRefusesWhatItCannotTake) {
  const AttnShape shape{.heads = 4, .kv_heads = 2, .k_dim = 192, .v_dim = 128};
  const PagedView kv{.page_tokens = 16, .kv_heads = 2, .k_dim = 192, .v_dim = 128};
  EXPECT_TRUE(static_cast<bool>(decode_takes(shape, kv, DType::bf16)));
  EXPECT_FALSE(static_cast<bool>(decode_takes(shape, kv, DType::f32)));
  EXPECT_FALSE(static_cast<bool>(decode_takes(shape, kv, DType::f16)));
  AttnShape wide = shape;
  wide.k_dim = wide.v_dim = 256;
  EXPECT_FALSE(static_cast<bool>(decode_takes(wide, kv, DType::bf16)));
  for (const int32_t page_tokens : {8, 24, 100}) {
    PagedView other = kv;
    other.page_tokens = page_tokens;
    EXPECT_FALSE(static_cast<bool>(decode_takes(shape, other, DType::bf16))) << page_tokens;
  }
  PagedView shifted = kv;
  shifted.k_offset_bytes = 8;
  EXPECT_FALSE(static_cast<bool>(decode_takes(shape, shifted, DType::bf16)));
}

// Bit for bit: a row's result depends on its own sequence and on the body.
TEST_F(AttentionCuda, OneEqualsManyOnAnyNumberOfMultiprocessors) {
  Random random(8);
  for (const Types& types : kTypes) {
    for (const int32_t window : {0, 100}) {
      const AttnShape shape{
          .heads = 32, .kv_heads = 2, .k_dim = 192, .v_dim = 128, .window = window};
      AttnCase all = random_case(shape, {{1, 1300}, {5, 40}, {1, 1}, {70, 600}, {1, 64}, {2, 3000}},
                                 types.pages, random);
      all.sinks = random.normal(shape.heads);
      all.token_scales = types.pages == DType::f8e4m3;
      for (const CudaBody& body : bodies(all, types)) {
        std::vector<float> alone;
        for (size_t i = 0; i < all.lengths.size(); ++i) {
          const AttnCase one = chunk_of(all, i, 0, all.lengths[i].q_len);
          const std::vector<float> out = run_cuda(body, one, {.q = types.q});
          alone.insert(alone.end(), out.begin(), out.end());
        }
        for (const int n_sms : {1, 3, 132}) {
          EXPECT_EQ(run_cuda(body, all, {.q = types.q, .n_sms = n_sms}), alone)
              << body.name << " on " << n_sms << " " << text(all);
        }
      }
    }
  }
}

TEST_F(AttentionCuda, APrefillEqualsItsChunks) {
  Random random(9);
  for (const Types& types : kTypes) {
    for (const int32_t window : {0, 50}) {
      const AttnShape shape{
          .heads = 12, .kv_heads = 2, .k_dim = 128, .v_dim = 128, .window = window};
      AttnCase whole = random_case(shape, {{70, 540}}, types.pages, random);
      whole.token_scales = types.pages == DType::f8e4m3;
      for (const CudaBody& body : bodies(whole, types)) {
        const std::vector<float> expected = run_cuda(body, whole, {.q = types.q});
        for (const int32_t chunk : {1, 7, 64}) {
          std::vector<float> actual;
          for (int32_t begin = 0; begin < 70; begin += chunk) {
            const AttnCase part = chunk_of(whole, 0, begin, std::min(70, begin + chunk));
            const std::vector<float> out = run_cuda(body, part, {.q = types.q});
            actual.insert(actual.end(), out.begin(), out.end());
          }
          EXPECT_EQ(actual, expected) << body.name << " chunks of " << chunk << " " << text(whole);
        }
      }
    }
  }
}

TEST_F(AttentionCuda, PageSizesAndPlacesDoNotMatter) {
  Random random(10);
  for (const Types& types : kTypes) {
    const AttnShape shape{.heads = 16, .kv_heads = 2, .k_dim = 192, .v_dim = 128};
    AttnCase c = random_case(shape, {{1, 1100}, {33, 90}, {2, 65}}, types.pages, random);
    c.token_scales = types.pages == DType::f8e5m2;
    for (const CudaBody& body : bodies(c, types)) {
      const std::vector<float> expected = run_cuda(body, c, {.q = types.q, .page_tokens = 2048});
      for (const int32_t page_tokens : {16, 32, 64, 256}) {
        for (const uint64_t seed : {1, 2}) {
          const RunOptions options{.q = types.q, .page_tokens = page_tokens, .seed = seed};
          EXPECT_EQ(run_cuda(body, c, options), expected)
              << body.name << " pages of " << page_tokens << " " << text(c);
        }
      }
    }
  }
}

}  // namespace
}  // namespace ashlar
