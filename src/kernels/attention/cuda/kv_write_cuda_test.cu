// kv_write_cuda against kv_write_ref, byte for byte. Skipped where there is no GPU.

#include <gtest/gtest.h>

#include "kernels/attention/cuda/attention_cuda_testing.cuh"

namespace ashlar {
namespace {

constexpr DType kPages[] = {DType::f32, DType::bf16, DType::f16, DType::f8e4m3, DType::f8e5m2};
constexpr DType kInputs[] = {DType::f32, DType::bf16, DType::f16};

class KvWriteCuda : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!cuda::has_device()) GTEST_SKIP() << "no GPU here";
  }
};

struct Step {
  std::vector<float> k, v;
  DType from = DType::f32;
  float v_multiplier = 1.0f;
};

std::vector<float> rounded(const std::vector<float>& values, DType dtype) {
  return dtype == DType::f32 ? values : from_half_bits(to_half_bits(values, dtype), dtype);
}
cuda::DeviceBytes on_device(const std::vector<float>& values, DType dtype) {
  if (dtype == DType::f32) return cuda::DeviceBytes(values);
  return cuda::DeviceBytes(to_half_bits(values, dtype));
}

// Both write into fresh poisoned pages; all of their bytes must agree.
void expect_same(const AttnCase& c, const Step& step, int32_t page_tokens) {
  const AttnShape& s = c.shape;
  const Pages pages(c, page_tokens, 7, 16);
  std::vector<std::byte> expected(pages.memory().size(), std::byte{0xFF});
  PagedView kv = pages.view();
  kv.base = expected.data();
  const std::vector<AttnSeq> seqs = sequences(c, pages);
  const std::vector<float> k = rounded(step.k, step.from), v = rounded(step.v, step.from);
  Pool pool(1);
  kv_write_ref({.k = view(k, {c.n_tokens(), s.kv_heads, s.k_dim}),
                .v = view(v, {c.n_tokens(), s.kv_heads, s.v_dim}),
                .kv = kv,
                .seqs = seqs,
                .v_multiplier = step.v_multiplier},
               pool);

  const cuda::DeviceBytes device_k = on_device(step.k, step.from);
  const cuda::DeviceBytes device_v = on_device(step.v, step.from);
  const cuda::DeviceBytes arena(expected.size());
  const DeviceSequences device_seqs(c, pages, 0);
  AttnShape planned = s;
  planned.v_dim = std::max(1, s.v_dim);
  const CudaPlan plan = plan_cuda(planned, {}, device_seqs.get(), 132);
  const cuda::DeviceBytes workspace(static_cast<size_t>(plan.workspace_bytes));
  upload(plan, workspace.get(), nullptr);
  kv.base = arena.get();
  kv_write_cuda(plan,
                {.k = View(device_k.get(), step.from, {c.n_tokens(), s.kv_heads, s.k_dim}),
                 .v = View(device_v.get(), step.from, {c.n_tokens(), s.kv_heads, s.v_dim}),
                 .kv = kv,
                 .v_multiplier = step.v_multiplier},
                workspace.get(), nullptr);
  CHECK_CUDA(cudaDeviceSynchronize());
  EXPECT_TRUE(arena.read<std::byte>() == expected)
      << name(step.from) << " to " << name(c.dtype) << " " << s.k_dim << "/" << s.v_dim
      << " pages of " << page_tokens << (c.token_scales ? ", token scales" : "");
}

TEST_F(KvWriteCuda, WritesTheReferencesBytes) {
  Random random(1);
  for (const DType dtype : kPages) {
    for (const DType from : kInputs) {
      for (const auto& [k_dim, v_dim] : {std::pair{192, 128}, {20, 12}, {7, 33}, {576, 0}}) {
        for (const bool own : {false, true}) {
          if (own && (!is_f8(dtype) || v_dim == 0)) continue;
          const AttnShape shape{.heads = 2, .kv_heads = 2, .k_dim = k_dim, .v_dim = v_dim};
          AttnCase c = random_case(shape, {{0, 9}, {1, 40}, {37, 61}, {0, 3}, {5, 5}, {0, 0}},
                                   dtype, random);
          c.token_scales = own, c.k_scale = 0.3f, c.v_scale = 0.7f;
          const Step step{.k = random.normal(c.n_tokens() * 2 * k_dim),
                          .v = random.normal(c.n_tokens() * 2 * v_dim, 100.0f),
                          .from = from,
                          .v_multiplier = 0.707f};
          for (const int32_t page_tokens : {1, 16, 50}) expect_same(c, step, page_tokens);
        }
      }
    }
  }
}

TEST_F(KvWriteCuda, RoundsEveryKindOfNumber) {
  const float infinity = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> k = {0.0f,     -0.0f,     1.0f,      infinity, -infinity, nan,      -nan,
                          65504.0f, 65519.99f, 65520.0f,  -1e6f,    1e-8f,     5.96e-8f, 2.98e-8f,
                          6.1e-5f,  6.09e-5f,  -3.05e-5f, 1e-40f,   3e38f,     3.4e38f};
  Random random(2);
  while (k.size() < 40000) {  // all exponents, and halves between two representable numbers
    const auto bits = static_cast<uint32_t>(random.integer(0, 0xFFFFFFFF));
    k.push_back(std::bit_cast<float>(bits & (k.size() % 2 ? 0xFFFFF000u : 0xFFFF8000u)));
  }
  for (const DType dtype : kPages) {
    for (const bool own : {false, true}) {
      if (own && !is_f8(dtype)) continue;
      const AttnShape shape{.heads = 1, .kv_heads = 1, .k_dim = 100, .v_dim = 100};
      AttnCase c = random_case(shape, {{400, 400}}, dtype, random);
      c.token_scales = own;
      expect_same(c, {.k = k, .v = k}, 16);
    }
  }
}

}  // namespace
}  // namespace ashlar
