// attention_cuda_bench: the CUDA bodies on large shapes, L2 cold, each checked against the plain
// body on the same inputs. One JSON line a case, then a table.
//
//   attention_cuda_bench [--only TEXT] [--split TOKENS] [--blocks PER_SM] [--clean 1] [--mma 1]

#include <cstdio>
#include <cstring>
#include <numeric>
#include <random>
#include <string>

#include "kernels/attention/cuda/decode.h"
#include "kernels/attention/cuda/element.cuh"
#include "kernels/cuda/testing.cuh"

namespace ashlar {
namespace {

struct Setup {
  std::string name;
  AttnShape shape;
  int32_t batch;
  int32_t q_len;
  int32_t kv_len;
  int32_t page_tokens = 64;
  DType pages = DType::bf16;
  bool sinks = false;
  bool token_scales = false;
};

// Pages lie anywhere in an arena of at least this size, as in service: a small one's share of the
// memory channels is a matter of luck.
constexpr int64_t kArenaBytes = int64_t{8} << 30;

constexpr AttnShape kGqa{.heads = 64, .kv_heads = 4, .k_dim = 192, .v_dim = 128};
constexpr AttnShape kWindow{.heads = 64, .kv_heads = 8, .k_dim = 192, .v_dim = 128, .window = 128};
constexpr AttnShape kEqual{.heads = 32, .kv_heads = 8, .k_dim = 128, .v_dim = 128};

std::vector<Setup> setups() {
  std::vector<Setup> all;
  for (const int32_t batch : {1, 32, 128}) {
    const std::string b = fmt::format("b{}", batch);
    all.push_back({"gqa 8k bf16 p64 " + b, kGqa, batch, 1, 8192});
    all.push_back({"gqa 8k bf16 p16 " + b, kGqa, batch, 1, 8192, 16});
    all.push_back({"gqa 8k e4m3 p64 " + b, kGqa, batch, 1, 8192, 64, DType::f8e4m3});
    all.push_back({"gqa 8k e4m3 p16 " + b, kGqa, batch, 1, 8192, 16, DType::f8e4m3});
    all.push_back({"gqa 8k e4m3 own " + b, kGqa, batch, 1, 8192, 64, DType::f8e4m3, false, true});
    all.push_back({"window bf16 p64 " + b, kWindow, batch, 1, 8192, 64, DType::bf16, true});
    all.push_back({"window bf16 p16 " + b, kWindow, batch, 1, 8192, 16, DType::bf16, true});
    all.push_back({"window e4m3 p64 " + b, kWindow, batch, 1, 8192, 64, DType::f8e4m3, true});
  }
  all.push_back({"gqa 8k e5m2 p64 b32", kGqa, 32, 1, 8192, 64, DType::f8e5m2});
  all.push_back({"128/128 8k bf16 b32", kEqual, 32, 1, 8192});
  all.push_back({"128/128 1k bf16 b32", kEqual, 32, 1, 1024});
  all.push_back({"gqa 8k bf16 q4 b32", kGqa, 32, 4, 8192});
  all.push_back({"prefill 2k bf16", kGqa, 1, 2048, 2048});
  all.push_back({"prefill 2k e4m3", kGqa, 1, 2048, 2048, 64, DType::f8e4m3});
  all.push_back({"prefill window 8k", kWindow, 1, 8192, 8192, 64, DType::bf16, true});
  return all;
}

__device__ uint32_t mixed(uint64_t x) {  // splitmix64
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return static_cast<uint32_t>((x ^ (x >> 31)) >> 32);
}
__device__ float normal(uint64_t i) {
  const float u = (static_cast<float>(mixed(2 * i) >> 8) + 0.5f) * 0x1p-24f;
  const float v = static_cast<float>(mixed(2 * i + 1) >> 8) * 0x1p-24f;
  return sqrtf(-2.0f * logf(u)) * cosf(6.2831853f * v);
}
__global__ void fill_normal(void* to, DType dtype, int64_t n, uint64_t seed, float scale) {
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n; i += step) {
    const float x = normal(seed + static_cast<uint64_t>(i)) * scale;
    if (dtype == DType::f8e4m3)
      static_cast<__nv_fp8_e4m3*>(to)[i] = __nv_fp8_e4m3(x);
    else if (dtype == DType::f8e5m2)
      static_cast<__nv_fp8_e5m2*>(to)[i] = __nv_fp8_e5m2(x);
    else
      cuda::store(to, dtype, i, x);
  }
}
// Uniform in [low, 3 low).
__global__ void fill_scales(std::byte* base, PagedView kv, int64_t page_bytes, int64_t n_pages,
                            float low) {
  const int64_t n = 2LL * kv.kv_heads * kv.page_tokens;
  for (int64_t page = blockIdx.x; page < n_pages; page += gridDim.x) {
    auto* to = reinterpret_cast<float*>(base + page * page_bytes + kv.scales_offset_bytes);
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x)
      to[i] = low * (1.0f + 2.0f * static_cast<float>(mixed(page * n + i) >> 8) * 0x1p-24f);
  }
}

// A step with everything it needs on the device: pages in random order.
class Step {
 public:
  explicit Step(const Setup& setup)
      : setup_(setup),
        kv_(view_of(setup)),
        tables_(n_pages() * sizeof(uint32_t)),
        pages_(fill_pages()),
        q_(n_rows() * setup.shape.k_dim * 2),
        out_(n_rows() * setup.shape.v_dim * 2) {
    const auto n_q = static_cast<int64_t>(q_.bytes() / 2);
    fill_normal<<<1024, 256>>>(q_.get(), DType::bf16, n_q, 99, 1.0f);
    std::vector<float> sinks(static_cast<size_t>(setup.shape.heads), 0.5f);
    sinks_.write(sinks);
  }

  std::vector<float> run(void (*body)(const CudaPlan&, const AttnParams&, CUstream_st*),
                         const CudaTiling& tiling, double* us, bool clean = false) {
    const CudaPlan plan = plan_cuda(setup_.shape, tiling, seqs_, cuda::n_multiprocessors());
    const cuda::DeviceBytes workspace(static_cast<size_t>(plan.workspace_bytes));
    upload(plan, workspace.get(), nullptr);
    CHECK_CUDA(cudaMemset(out_.get(), 0xFF, out_.bytes()));
    const AttnShape& s = setup_.shape;
    const int64_t tokens = int64_t{setup_.batch} * setup_.q_len;
    const AttnParams params{.q = View(q_.get(), DType::bf16, {tokens, s.heads, s.k_dim}),
                            .out = View(out_.get(), DType::bf16, {tokens, s.heads, s.v_dim}),
                            .kv = kv_,
                            .scale = 1.5f / std::sqrt(static_cast<float>(s.k_dim)),
                            .sinks = setup_.sinks ? sinks_.as<float>() : nullptr,
                            .workspace = {workspace.get(), workspace.bytes()}};
    if (us)
      *us = cuda::median_us([&] { body(plan, params, nullptr); }, 21, clean);
    else
      body(plan, params, nullptr);
    CHECK_CUDA(cudaDeviceSynchronize());
    std::vector<float> values;
    for (const Bf16 value : out_.read<Bf16>()) values.push_back(to_float(value));
    return values;
  }

  // Bytes read and written once, and products of visible pairs.
  double bytes() const {
    const AttnShape& s = setup_.shape;
    const int64_t kv_row =
        (s.k_dim + s.v_dim) * size_of(setup_.pages) + (setup_.token_scales ? 8 : 0);
    const int64_t seen =
        s.window > 0 ? std::min(setup_.kv_len, s.window + setup_.q_len - 1) : setup_.kv_len;
    return static_cast<double>(setup_.batch * s.kv_heads * seen * kv_row +
                               n_rows() * (s.k_dim + s.v_dim) * 2);
  }
  double flops() const {
    const AttnShape& s = setup_.shape;
    double pairs = 0;
    for (int32_t i = 0; i < setup_.q_len; ++i) {
      const int32_t all = setup_.kv_len - i;
      pairs += s.window > 0 ? std::min(all, s.window) : all;
    }
    return 2.0 * pairs * setup_.batch * s.heads * (s.k_dim + s.v_dim);
  }

 private:
  static PagedView view_of(const Setup& setup) {
    const AttnShape& s = setup.shape;
    PagedView kv{.page_tokens = setup.page_tokens,
                 .kv_heads = s.kv_heads,
                 .k_dim = s.k_dim,
                 .v_dim = s.v_dim,
                 .dtype = setup.pages,
                 .k_scale = 0.5f,
                 .v_scale = 0.25f};
    const int64_t head_rows = int64_t{s.kv_heads} * setup.page_tokens;
    kv.v_offset_bytes = head_rows * s.k_dim * size_of(setup.pages);
    if (setup.token_scales)
      kv.scales_offset_bytes = head_rows * (s.k_dim + s.v_dim) * size_of(setup.pages);
    return kv;
  }

  cuda::DeviceBytes fill_pages() {
    const AttnShape& s = setup_.shape;
    const int64_t head_rows = int64_t{s.kv_heads} * setup_.page_tokens;
    const int64_t page_bytes =
        head_rows * ((s.k_dim + s.v_dim) * size_of(setup_.pages) + (setup_.token_scales ? 8 : 0));
    CHECK(page_bytes % kGranuleBytes == 0);
    const auto seq_pages = static_cast<int64_t>(this->n_pages()) / setup_.batch;
    const int64_t n_pages = std::max(seq_pages * setup_.batch, kArenaBytes / page_bytes);
    cuda::DeviceBytes pages(static_cast<size_t>(n_pages * page_bytes));
    fill_normal<<<4096, 256>>>(pages.get(), setup_.pages,
                               n_pages * page_bytes / size_of(setup_.pages), 1,
                               is_f8(setup_.pages) ? 2.0f : 1.0f);
    kv_.base = pages.get();
    if (setup_.token_scales)
      fill_scales<<<1024, 256>>>(pages.get(), kv_, page_bytes, n_pages, 0.25f);
    std::vector<uint32_t> places(static_cast<size_t>(n_pages));
    for (size_t i = 0; i < places.size(); ++i)
      places[i] = static_cast<uint32_t>(static_cast<int64_t>(i) * page_bytes / kGranuleBytes);
    std::shuffle(places.begin(), places.end(), std::mt19937(3));
    places.resize(this->n_pages());
    tables_.write(places);
    for (int32_t i = 0; i < setup_.batch; ++i) {
      seqs_.push_back({.q_begin = i * setup_.q_len,
                       .q_len = setup_.q_len,
                       .kv_len = setup_.kv_len,
                       .pages = tables_.as<uint32_t>() + i * seq_pages});
    }
    return pages;
  }
  size_t n_pages() const {
    return static_cast<size_t>(setup_.batch) *
           static_cast<size_t>((setup_.kv_len + setup_.page_tokens - 1) / setup_.page_tokens);
  }
  size_t n_rows() const {
    return static_cast<size_t>(setup_.batch) *
           static_cast<size_t>(setup_.q_len * setup_.shape.heads);
  }

  Setup setup_;
  PagedView kv_;
  cuda::DeviceBytes tables_;
  std::vector<AttnSeq> seqs_;
  cuda::DeviceBytes pages_, q_, out_;
  cuda::DeviceBytes sinks_{size_t{4096}};
};

double relative_error(const std::vector<float>& actual, const std::vector<float>& expected) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    difference += std::pow(static_cast<double>(actual[i]) - expected[i], 2);
    norm += std::pow(static_cast<double>(expected[i]), 2);
  }
  return std::sqrt(difference / norm);
}

void bench(const Setup& setup, bool mma, int split, int blocks, bool clean,
           const cuda::DeviceRoof& roof, std::string& table) {
  Step step(setup);
  const bool decode = setup.q_len * setup.shape.heads / setup.shape.kv_heads <= 64;
  mma |= !decode;
  CudaTiling tiling = !decode ? mma_prefill_tiling(setup.shape)
                      : mma   ? mma_decode_tiling(setup.shape)
                              : decode_tiling(setup.shape);
  if (split > 0 && tiling.kv_split > 0) tiling.kv_split = split;
  if (blocks > 0) tiling.blocks_per_sm = blocks;
  double us = 0;
  const std::vector<float> actual =
      step.run(mma ? attention_cuda_mma : attention_cuda_decode, tiling, &us, clean);
  const double error = relative_error(actual, step.run(attention_cuda_plain, tiling, nullptr));
  const double percent = 100 * roof.us(step.bytes(), step.flops()) / us;
  std::fflush(stdout);
  std::printf(
      "{\"case\": \"%s\", \"us\": %.2f, \"bytes\": %.0f, \"flops\": %.0f, \"roof_percent\": %.1f, "
      "\"relative_error\": %.2e}\n",
      setup.name.c_str(), us, step.bytes(), step.flops(), percent, error);
  char line[200];
  std::snprintf(line, sizeof(line), "%-24s %9.2f us  %5.1f %%  %7.0f GB/s  %6.1f TFLOP/s  %.1e\n",
                setup.name.c_str(), us, percent, step.bytes() / us / 1e3, step.flops() / us / 1e6,
                error);
  table += line;
}

}  // namespace
}  // namespace ashlar

int main(int n_args, char** args) {
  std::string only;
  int split = 0, blocks = 0;
  bool clean = false, mma = false;
  for (int i = 1; i + 1 < n_args; i += 2) {
    if (std::strcmp(args[i], "--only") == 0) only = args[i + 1];
    if (std::strcmp(args[i], "--blocks") == 0) blocks = std::stoi(args[i + 1]);
    if (std::strcmp(args[i], "--mma") == 0) mma = std::stoi(args[i + 1]) != 0;
    if (std::strcmp(args[i], "--clean") == 0) clean = std::stoi(args[i + 1]) != 0;
    if (std::strcmp(args[i], "--split") == 0) split = std::stoi(args[i + 1]);
  }
  if (!ashlar::cuda::has_device()) {
    std::printf("no GPU here\n");
    return 0;
  }
  const ashlar::cuda::DeviceRoof roof = ashlar::cuda::measure_roof();
  std::string table;
  for (const ashlar::Setup& setup : ashlar::setups())
    if (setup.name.find(only) != std::string::npos)
      ashlar::bench(setup, mma, split, blocks, clean, roof, table);
  std::printf("\nread %.2f TB/s, mma.sync %.0f TFLOP/s\n%s", roof.read_bytes_per_s / 1e12,
              roof.mma_flops_per_s / 1e12, table.c_str());
}
