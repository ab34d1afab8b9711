// Latent attention on CUDA, timed: one JSON line a case. The time is that of run() with a cold L2
// cache, merge included; the roof is what a plain read reaches here. Two sequences of each case are
// checked against the plain body.

#include <cstdio>
#include <cstdlib>

#include "kernels/latent/cuda/latent_cuda_testing.cuh"

namespace ashlar {
namespace {

constexpr int kWidth = kLatentWidth + kLatentRope;
constexpr double kBf16Flops = 795e12;  // a large product's, measured on an H200

struct Setup {
  int32_t heads;
  int32_t batch;
  int32_t q_len;
  int32_t kv_len;
  DType kv_type;
  int32_t page_tokens = 64;
  int32_t kv_split = 0;  // 0: the body's own
};

// Random rows: uniform bits of sign and mantissa, exponents of 2^-3 to 1.
__global__ void fill(uint32_t* words, int64_t n, int64_t seed, uint32_t keep, uint32_t set) {
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n; i += step) {
    uint64_t x = static_cast<uint64_t>(i + (seed << 36)) * 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    words[i] = (static_cast<uint32_t>(x >> 32) & keep) | set;
  }
}
void fill(const DeviceBytes& memory, DType type, int64_t seed) {
  const bool f8 = is_f8(type);
  fill<<<1024, 256>>>(memory.as<uint32_t>(), static_cast<int64_t>(memory.bytes() / 4), seed,
                      f8 ? 0x9F9F9F9Fu : 0x81FF81FFu, f8 ? 0x20202020u : 0x3E003E00u);
  CHECK_CUDA(cudaGetLastError());
}

struct Step {
  std::vector<uint32_t> table;
  std::vector<AttnSeq> seqs;
};

Step make_step(const Setup& s, int64_t page_bytes, const DeviceBytes& table) {
  Step step;
  const int32_t pages = (s.kv_len + s.page_tokens - 1) / s.page_tokens;
  for (int32_t i = 0; i < s.batch * pages; ++i)
    step.table.push_back(static_cast<uint32_t>(i * page_bytes / kGranuleBytes));
  std::shuffle(step.table.begin(), step.table.end(), std::mt19937_64(1));
  for (int32_t b = 0; b < s.batch; ++b)
    step.seqs.push_back({.q_begin = b * s.q_len,
                         .q_len = s.q_len,
                         .kv_len = s.kv_len,
                         .pages = table.as<uint32_t>() + b * pages});
  return step;
}

// Of the first two sequences, against the plain body.
double error_of(const Setup& s, const Step& step, const LatentParams& p, DType type) {
  const size_t n = std::min<size_t>(2, step.seqs.size());
  const AttnShape shape{.heads = s.heads, .kv_heads = 1, .k_dim = kWidth, .v_dim = kLatentWidth};
  const CudaPlan plan = plan_cuda(shape, {}, std::span(step.seqs).first(n), 132);
  const DeviceBytes workspace(bytes_of(plan.workspace_bytes)), out(bytes_of(p.out.bytes()));
  upload(plan, workspace.get(), nullptr);
  attention_cuda_plain(plan,
                       {.q = p.q,
                        .out = View(out.get(), type, p.out.shape),
                        .kv = p.kv,
                        .scale = p.scale,
                        .workspace = all_of(workspace)},
                       nullptr);
  CHECK_CUDA(cudaDeviceSynchronize());
  std::vector<uint8_t> expected = out.read<uint8_t>(), actual(expected.size());
  CHECK_CUDA(cudaMemcpy(actual.data(), p.out.data, actual.size(), cudaMemcpyDeviceToHost));
  const size_t bytes = n * static_cast<size_t>(s.q_len * s.heads) * kLatentWidth * 2;
  expected.resize(bytes), actual.resize(bytes);
  return relative_error(loaded(actual, type), loaded(expected, type));
}

void measure(CudaLatentBody body, const Setup& s, double read_bytes_per_s) {
  const DType type = DType::bf16;
  const int64_t page_bytes = s.page_tokens * kWidth * size_of(s.kv_type);
  const int64_t n_pages = int64_t{s.batch} * ((s.kv_len + s.page_tokens - 1) / s.page_tokens);
  const DeviceBytes memory(bytes_of(n_pages * page_bytes)), device_table(bytes_of(n_pages * 4));
  const int64_t n = int64_t{s.batch} * s.q_len;
  const DeviceBytes q(bytes_of(n * s.heads * kWidth * 2));
  const DeviceBytes out(bytes_of(n * s.heads * kLatentWidth * 2));
  fill(memory, s.kv_type, 1), fill(q, type, 1 << 20);
  const Step step = make_step(s, page_bytes, device_table);
  CHECK_CUDA(cudaMemcpy(device_table.get(), step.table.data(), step.table.size() * 4,
                        cudaMemcpyHostToDevice));
  if (s.kv_split == 4096) {
    body.tiling = [](int32_t heads, DType) {
      return CudaTiling{.rows = heads > 64 ? 128 : 64, .kv_split = 4096};
    };
  }
  const CudaPlan plan = plan_latent_cuda(body, {s.heads, kLatentWidth, kLatentRope}, s.kv_type,
                                         step.seqs, cuda::n_multiprocessors());
  const DeviceBytes workspace(bytes_of(plan.workspace_bytes));
  upload(plan, workspace.get(), nullptr);
  const LatentParams p{.q = ConstView(q.get(), type, {n, s.heads, kWidth}),
                       .out = View(out.get(), type, {n, s.heads, kLatentWidth}),
                       .kv = {.base = memory.get(),
                              .page_tokens = s.page_tokens,
                              .kv_heads = 1,
                              .k_dim = kWidth,
                              .dtype = s.kv_type},
                       .scale = is_f8(s.kv_type) ? 0.2f : 0.05f,
                       .workspace = all_of(workspace)};
  const double us = cuda::median_us([&] { body.run(plan, p, nullptr); }, 15);
  const double bytes = static_cast<double>(n_pages * page_bytes + p.q.bytes() + p.out.bytes());
  const double flops = 2.0 * s.heads * static_cast<double>(n) * s.kv_len * (kWidth + kLatentWidth);
  const double floor_us = 1e6 * std::max(bytes / read_bytes_per_s, flops / kBf16Flops);
  std::printf(
      "{\"op\": \"%s\", \"H\": %d, \"B\": %d, \"q\": %d, \"kv\": %d, \"rows\": \"%s\", "
      "\"page\": %d, \"split\": %d, \"us\": %.1f, \"floor_us\": %.1f, "
      "\"roof_percent\": %.1f, \"blocks\": %d, \"error\": %.2e}\n",
      body.name, s.heads, s.batch, s.q_len, s.kv_len, name(s.kv_type), s.page_tokens,
      plan.tiling.kv_split, us, floor_us, 100 * floor_us / us, plan.n_blocks,
      error_of(s, step, p, type));
  std::fflush(stdout);
}

}  // namespace
}  // namespace ashlar

// latent_cuda_bench [body [heads [batch [q_len [kv_split]]]]], 0 or nothing: the usual cases.
int main(int argc, char** argv) {
  using namespace ashlar;
  const auto number = [&](int i) { return argc > i ? std::atoi(argv[i]) : 0; };
  const double read = cuda::measure_roof().read_bytes_per_s;
  std::printf("{\"read_gb_per_s\": %.0f, \"sms\": %d}\n", read * 1e-9, cuda::n_multiprocessors());
  for (const CudaLatentBody& body : {latent_cuda_mma(), latent_cuda_wgmma()}) {
    if (argc > 1 && std::string(argv[1]) != body.name) continue;
    for (const DType type : {DType::bf16, DType::f8e4m3}) {
      std::vector<Setup> setups;
      for (const int32_t heads : {16, 128}) {
        for (const int32_t batch : {1, 32, 128}) setups.push_back({heads, batch, 1, 8192, type});
      }
      setups.push_back({16, 32, 4, 8192, type});
      setups.push_back({64, 32, 1, 8192, type});
      setups.push_back({16, 32, 1, 8192, type, 16});
      setups.push_back({16, 32, 1, 1024, type});
      if (argc > 2) setups = {{number(2), number(3), number(4), 8192, type, 64, number(5)}};
      for (const Setup& setup : setups) measure(body, setup, read);
    }
  }
  return 0;
}
