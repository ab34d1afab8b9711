// Prefill on Hopper against the plain reference, and its laws. Skipped where there is no Hopper.

#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include "kernels/attention/attention_testing.h"
#include "kernels/attention/cuda/prefill.h"
#include "kernels/cuda/launch.cuh"

namespace ashlar {
namespace {

constexpr double kTolerance = 4e-3;

class WgmmaAttention : public testing::Test {
 protected:
  void SetUp() override {
    cudaDeviceProp device{};
    if (cudaGetDeviceProperties(&device, 0) != cudaSuccess || device.major != 9)
      GTEST_SKIP() << "no device of compute capability 9.0";
  }
};

// Device memory of a test.
class DeviceBytes {
 public:
  DeviceBytes(const void* from, size_t bytes) : bytes_(bytes) {
    CHECK_CUDA(cudaMalloc(&data_, std::max<size_t>(bytes, 1)));
    if (from != nullptr) CHECK_CUDA(cudaMemcpy(data_, from, bytes, cudaMemcpyHostToDevice));
    if (from == nullptr) CHECK_CUDA(cudaMemset(data_, 0xFF, bytes));
  }
  ~DeviceBytes() { cudaFree(data_); }
  DeviceBytes(const DeviceBytes&) = delete;
  DeviceBytes& operator=(const DeviceBytes&) = delete;
  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  size_t size() const { return bytes_; }

 private:
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

float rounded(float x, DType dtype) {
  return dtype == DType::f16 ? to_float(to_f16(x)) : to_float(to_bf16(x));
}

// A case with everything rounded as the device will see it.
AttnCase rounded_case(const AttnShape& shape, std::vector<SeqLength> lengths, DType pages, DType q,
                      Random& random) {
  AttnCase c = random_case(shape, std::move(lengths), pages, random);
  for (float& x : c.q) x = rounded(x, q);
  c.compute = DType::f32;
  return c;
}

std::vector<float> run_wgmma(const AttnCase& c, DType q, int32_t page_tokens) {
  const Pages pages(c, page_tokens, 7, 16);
  const DeviceBytes memory(pages.memory().data(), pages.memory().size());
  PagedView view_of_pages = pages.view();
  view_of_pages.base = memory.as<std::byte>();
  std::vector<AttnSeq> seqs = sequences(c, pages);
  std::vector<std::unique_ptr<DeviceBytes>> tables;
  for (AttnSeq& seq : seqs) {
    const auto n = static_cast<size_t>((seq.kv_len + page_tokens - 1) / page_tokens);
    tables.push_back(std::make_unique<DeviceBytes>(seq.pages, n * sizeof(uint32_t)));
    seq.pages = tables.back()->as<uint32_t>();
  }
  std::vector<uint16_t> bits;
  for (const float x : c.q) bits.push_back(q == DType::f16 ? to_f16(x).bits : to_bf16(x).bits);
  const DeviceBytes queries(bits.data(), bits.size() * 2);
  const auto n_out = static_cast<size_t>(c.n_tokens() * c.shape.heads * c.shape.v_dim);
  const DeviceBytes out(nullptr, n_out * 2);
  const CudaPlan plan = plan_cuda(c.shape, wgmma_tiling(c.shape, view_of_pages, q), seqs, 132);
  const DeviceBytes workspace(nullptr, static_cast<size_t>(plan.workspace_bytes));
  const std::vector<float>& s = c.sinks;
  const DeviceBytes sinks(s.data(), s.size() * sizeof(float));
  upload(plan, workspace.as<std::byte>(), nullptr);
  const AttnParams params{
      .q = ConstView(queries.as<std::byte>(), q, {c.n_tokens(), c.shape.heads, c.shape.k_dim}),
      .out = View(out.as<std::byte>(), q, {c.n_tokens(), c.shape.heads, c.shape.v_dim}),
      .kv = view_of_pages,
      .scale = c.scale,
      .softcap = c.softcap,
      .sinks = s.empty() ? nullptr : sinks.as<float>(),
      .workspace = {workspace.as<std::byte>(), workspace.size()}};
  CHECK(wgmma_takes(c.shape, params.kv, q).has_value(), "{}", text(c));
  for (int layer = 0; layer < 2; ++layer) attention_cuda_wgmma(plan, params, nullptr);
  CHECK_CUDA(cudaDeviceSynchronize());
  bits.resize(n_out);
  CHECK_CUDA(cudaMemcpy(bits.data(), out.as<void>(), n_out * 2, cudaMemcpyDeviceToHost));
  std::vector<float> result;
  for (const uint16_t b : bits)
    result.push_back(q == DType::f16 ? to_float(F16{b}) : to_float(Bf16{b}));
  return result;
}

void expect_matches(const AttnCase& c, DType q, std::initializer_list<int32_t> page_tokens) {
  const std::vector<float> expected = run_attention(attention_ref, c);
  for (const int32_t tokens : page_tokens) {
    const double error = relative_error(run_wgmma(c, q, tokens), expected);
    EXPECT_LT(error, kTolerance) << text(c) << " pages of " << tokens;
  }
}

const std::vector<SeqLength> kRagged = {{1, 1}, {37, 200}, {0, 5}, {70, 70}, {5, 64}, {20, 333}};

TEST_F(WgmmaAttention, MatchesReferenceOfEachWidthAndGroup) {
  Random random(1);
  const int32_t widths[][2] = {{192, 128}, {128, 128}, {64, 64}, {96, 96}, {80, 80}, {256, 256}};
  for (const auto& width : widths) {
    for (const int32_t group : {1, 5, 16}) {
      const int32_t kv_heads = group > 5 ? 1 : 2;
      const AttnShape shape{
          .heads = kv_heads * group, .kv_heads = kv_heads, .k_dim = width[0], .v_dim = width[1]};
      expect_matches(rounded_case(shape, kRagged, DType::bf16, DType::bf16, random), DType::bf16,
                     {64});
    }
  }
}

TEST_F(WgmmaAttention, MatchesReferenceOfEachType) {
  Random random(2);
  const AttnShape shape{.heads = 16, .kv_heads = 2, .k_dim = 192, .v_dim = 128};
  expect_matches(rounded_case(shape, kRagged, DType::f16, DType::f16, random), DType::f16,
                 {16, 64});
}

TEST_F(WgmmaAttention, MatchesReferenceOfF8) {
  Random random(8);
  for (const auto& [keys, values] : {std::pair{64, 64}, {128, 128}, {192, 128}, {256, 256}}) {
    for (const int32_t window : {0, 100}) {
      const AttnShape shape{
          .heads = 16, .kv_heads = 2, .k_dim = keys, .v_dim = values, .window = window};
      for (const DType pages : {DType::f8e4m3, DType::f8e5m2}) {
        AttnCase c = rounded_case(shape, kRagged, pages, DType::bf16, random);
        c.k_scale = 0.02f, c.v_scale = 0.5f;
        expect_matches(c, DType::bf16, {16, 64});
      }
    }
  }
}

// The weights of tokens whose values are 2^20 apart, and values that are nothing.
TEST_F(WgmmaAttention, ScalesOfTokens) {
  Random random(9);
  for (const auto& [keys, values] : {std::pair{64, 64}, {128, 128}, {192, 128}, {256, 256}}) {
    for (const int32_t window : {0, 100}) {
      const AttnShape shape{
          .heads = 16, .kv_heads = 2, .k_dim = keys, .v_dim = values, .window = window};
      AttnCase c = rounded_case(shape, kRagged, DType::f8e4m3, DType::bf16, random);
      c.token_scales = true;
      c.sinks = random.normal(shape.heads, 2.0f);
      if (window > 0) c.softcap = 3;
      expect_matches(c, DType::bf16, {16, 32, 64});
      for (std::vector<float>& v : c.v) {
        for (size_t i = 0; i < v.size(); ++i) {
          const size_t token = i / static_cast<size_t>(values);
          v[i] *= token % 7 == 3 ? 0.0f : std::ldexp(1.0f, static_cast<int>(token % 21) - 10);
        }
      }
      expect_matches(c, DType::bf16, {16});
    }
  }
}

TEST_F(WgmmaAttention, HugeAndTinyQueriesOverF8) {
  Random random(3);
  const AttnShape shape{.heads = 8, .kv_heads = 1, .k_dim = 192, .v_dim = 128};
  AttnCase c = rounded_case(shape, {{40, 200}}, DType::f8e4m3, DType::bf16, random);
  for (const float factor : {1e30f, 1e-30f}) {
    AttnCase scaled = c;
    for (float& x : scaled.q) x = rounded(x * factor, DType::bf16);
    scaled.scale = c.scale / factor;
    expect_matches(scaled, DType::bf16, {32});
  }
}

TEST_F(WgmmaAttention, WindowSinksSoftcapAndBlocks) {
  Random random(4);
  for (const int32_t window : {0, 1, 100, 128, 300}) {
    for (const DType pages : {DType::bf16, DType::f8e4m3}) {
      const AttnShape shape{.heads = 16,
                            .kv_heads = 2,
                            .k_dim = 192,
                            .v_dim = 128,
                            .window = window,
                            .causal = window % 3 != 0 || window == 0};
      AttnCase c = rounded_case(shape, kRagged, pages, DType::bf16, random);
      c.sinks = random.normal(shape.heads, 2.0f);
      c.softcap = window == 100 || window == 300 ? 3 : 0;
      expect_matches(c, DType::bf16, {16, 32, 64});
    }
  }
}

TEST_F(WgmmaAttention, RandomBatches) {
  Random random(5);
  for (int i = 0; i < 12; ++i) {
    const auto group = static_cast<int32_t>(random.integer(1, 20));
    const AttnShape shape{.heads = 2 * group,
                          .kv_heads = 2,
                          .k_dim = 192,
                          .v_dim = 128,
                          .window = i % 3 == 0 ? static_cast<int32_t>(random.integer(1, 400)) : 0,
                          .causal = i % 4 != 1};
    std::vector<SeqLength> lengths;
    for (int n = 0; n < 4; ++n) {
      const auto kv = static_cast<int32_t>(random.integer(1, 300));
      lengths.push_back({static_cast<int32_t>(random.integer(0, std::min(kv, 60))), kv});
    }
    const DType pages = i % 2 == 0 ? DType::bf16 : DType::f8e4m3;
    const AttnCase c = rounded_case(shape, lengths, pages, DType::bf16, random);
    expect_matches(c, DType::bf16, {16 << i % 3});
  }
}

// A row's bits do not depend on the batch, the chunk or the size of pages.
TEST_F(WgmmaAttention, ARowIsAlwaysTheSame) {
  Random random(6);
  for (const int32_t window : {0, 128}) {
    for (const auto& [pages, own] :
         {std::pair{DType::bf16, false}, {DType::f8e4m3, false}, {DType::f8e4m3, true}}) {
      const AttnShape shape{
          .heads = 12, .kv_heads = 2, .k_dim = 192, .v_dim = 128, .window = window};
      AttnCase all =
          rounded_case(shape, {{200, 500}, {33, 77}, {90, 90}}, pages, DType::bf16, random);
      all.sinks = random.normal(shape.heads, 2.0f);
      all.token_scales = own;
      const std::vector<float> whole = run_wgmma(all, DType::bf16, 64);
      EXPECT_EQ(whole, run_wgmma(all, DType::bf16, 16));
      for (const int32_t cut : {1, 77, 128, 199}) {
        const std::vector<float> head = run_wgmma(chunk_of(all, 0, 0, cut), DType::bf16, 64);
        const std::vector<float> tail = run_wgmma(chunk_of(all, 0, cut, 200), DType::bf16, 32);
        std::vector<float> joined = head;
        joined.insert(joined.end(), tail.begin(), tail.end());
        joined.resize(static_cast<size_t>(200 * shape.heads * shape.v_dim));
        EXPECT_TRUE(std::equal(joined.begin(), joined.end(), whole.begin()))
            << "cut " << cut << " " << text(all);
      }
    }
  }
}

// Needs no device.
TEST(WgmmaTakes, SaysWhyNot) {
  const AttnShape shape{.heads = 4, .kv_heads = 1, .k_dim = 192, .v_dim = 128};
  PagedView kv{.page_tokens = 64, .kv_heads = 1, .k_dim = 192, .v_dim = 128};
  kv.v_offset_bytes = 64 * 192 * 2;
  EXPECT_TRUE(wgmma_takes(shape, kv, DType::bf16).has_value());
  EXPECT_FALSE(wgmma_takes(shape, kv, DType::f16).has_value());
  PagedView other = kv;
  other.page_tokens = 48;
  EXPECT_NE(wgmma_takes(shape, other, DType::bf16).error().text.find("48"), std::string::npos);
  other = kv;
  other.v_offset_bytes += 8;
  EXPECT_FALSE(wgmma_takes(shape, other, DType::bf16).has_value());
  other = kv;
  other.dtype = DType::f8e4m3;
  EXPECT_TRUE(wgmma_takes(shape, other, DType::bf16).has_value());
  EXPECT_FALSE(wgmma_takes(shape, other, DType::f16).has_value());
  other.scales_offset_bytes = 0;
  EXPECT_TRUE(wgmma_takes(shape, other, DType::bf16).has_value());
  other.dtype = DType::f8e5m2;
  EXPECT_NE(wgmma_takes(shape, other, DType::bf16).error().text.find("scales"), std::string::npos);
}

TEST_F(WgmmaAttention, NothingToDo) {
  Random random(7);
  const AttnShape shape{.heads = 4, .kv_heads = 1, .k_dim = 192, .v_dim = 128};
  EXPECT_TRUE(
      run_wgmma(rounded_case(shape, {{0, 5}}, DType::bf16, DType::bf16, random), DType::bf16, 16)
          .empty());
}

}  // namespace
}  // namespace ashlar
