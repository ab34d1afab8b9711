// Prefill on Hopper: microseconds, TFLOP/s and relative error of chosen cases. Caches are flushed
// between repetitions, pages lie in random order, outputs start as NaN, and sampled rows are
// checked against plain f32 sums over the stored numbers.

#include <cuda_fp8.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <numeric>
#include <random>
#include <thread>

#include "kernels/attention/cuda/prefill.h"
#include "kernels/cuda/launch.cuh"

namespace ashlar {
namespace {

constexpr double kPeakFlops = 795e12;  // bf16 products of this card, measured
constexpr int kSamples = 192;
constexpr int kRepetitions = 15;

struct Setup {
  const char* name;
  AttnShape shape;
  int32_t q_len;
  int32_t kv_len;
  DType pages;
  int32_t page_tokens;
  bool scattered;
  double bar_us;
  bool sinks = false;
};

constexpr AttnShape kFull{.heads = 64, .kv_heads = 4, .k_dim = 192, .v_dim = 128};
constexpr AttnShape kWindow{.heads = 64, .kv_heads = 8, .k_dim = 192, .v_dim = 128, .window = 128};

const Setup kSetups[] = {
    {"bf16 2k", kFull, 2048, 2048, DType::bf16, 64, true, 178},
    {"bf16 8k", kFull, 8192, 8192, DType::bf16, 64, true, 2400},
    {"bf16 8k in order", kFull, 8192, 8192, DType::bf16, 64, false, 2400},
    {"bf16 8k pages of 16", kFull, 8192, 8192, DType::bf16, 16, true, 2400},
    {"bf16 8k pages of 32", kFull, 8192, 8192, DType::bf16, 32, true, 2400},
    {"bf16 8k pages of 16 in order", kFull, 8192, 8192, DType::bf16, 16, false, 2400},
    {"bf16 32k", kFull, 32768, 32768, DType::bf16, 64, true, 39000},
    {"bf16 last 2k of 32k", kFull, 2048, 32768, DType::bf16, 64, true, 4053},
    {"f8 8k", kFull, 8192, 8192, DType::f8e4m3, 64, true, 2700},
    {"f8 8k pages of 16", kFull, 8192, 8192, DType::f8e4m3, 16, true, 2700},
    {"f8 32k", kFull, 32768, 32768, DType::f8e4m3, 64, true, 43000},
    {"window bf16 8k", kWindow, 8192, 8192, DType::bf16, 64, true, 230, true},
    {"window bf16 8k pages of 16", kWindow, 8192, 8192, DType::bf16, 16, true, 230, true},
    {"window f8 8k", kWindow, 8192, 8192, DType::f8e4m3, 64, true, 230, true},
    {"128/128 8k",
     {.heads = 32, .kv_heads = 8, .k_dim = 128, .v_dim = 128},
     8192,
     8192,
     DType::bf16,
     64,
     true,
     0},
    {"128/128 f8 8k",
     {.heads = 32, .kv_heads = 8, .k_dim = 128, .v_dim = 128},
     8192,
     8192,
     DType::f8e4m3,
     64,
     true,
     0},
    {"64/64 8k",
     {.heads = 64, .kv_heads = 8, .k_dim = 64, .v_dim = 64},
     8192,
     8192,
     DType::bf16,
     64,
     true,
     0},
    {"256/256 8k",
     {.heads = 16, .kv_heads = 4, .k_dim = 256, .v_dim = 256},
     8192,
     8192,
     DType::bf16,
     64,
     true,
     0},
};

__device__ float normal_of(uint64_t i) {
  i = (i + 1) * 0x9E3779B97F4A7C15ull;
  i = (i ^ (i >> 30)) * 0xBF58476D1CE4E5B9ull;
  i = (i ^ (i >> 27)) * 0x94D049BB133111EBull;
  i ^= i >> 31;
  const float u = static_cast<float>((i >> 40) + 1) * 0x1p-24f;
  return sqrtf(-2 * __logf(u)) * __cosf(6.2831853f * static_cast<float>(i & 0xffffff) * 0x1p-24f);
}

template <class T>
__global__ void fill_normal(T* out, int64_t n, uint64_t seed) {
  for (int64_t i = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; i < n;
       i += int64_t{gridDim.x} * blockDim.x)
    out[i] = T(normal_of(static_cast<uint64_t>(i) + (seed << 40)));
}

struct CheckArgs {
  AttnShape shape;
  AttnSeq seq;
  PagedView kv;
  const __nv_bfloat16* q;
  const __nv_bfloat16* out;
  const float* sinks;
  const int32_t* rows;  // token * heads + head
  float scale;
  double* sums;  // of squared differences and of squares, per sample
};

template <class Stored>
__device__ float dot(const __nv_bfloat16* q, const Stored* k, int n) {
  float sum = 0;
  for (int i = 0; i < n; ++i) sum += static_cast<float>(q[i]) * static_cast<float>(k[i]);
  return sum;
}

// A block for each sampled row.
template <class Stored>
__global__ void check_rows(const CheckArgs a) {
  extern __shared__ float weights[];
  const int token = a.rows[blockIdx.x] / a.shape.heads, head = a.rows[blockIdx.x] % a.shape.heads;
  const int kv_head = head / (a.shape.heads / a.shape.kv_heads);
  const int position = a.seq.kv_len - a.seq.q_len + token;
  const int begin = a.shape.window > 0 ? max(0, position - a.shape.window + 1) : 0;
  const int64_t row = int64_t{token} * a.shape.heads + head;
  const auto row_of = [&](int j, int64_t offset, int dim) {
    const int64_t granule = a.seq.pages[j / a.kv.page_tokens];
    const int64_t slot = int64_t{kv_head} * a.kv.page_tokens + j % a.kv.page_tokens;
    return reinterpret_cast<const Stored*>(a.kv.base + granule * kGranuleBytes + offset) +
           slot * dim;
  };
  for (int j = begin + threadIdx.x; j <= position; j += blockDim.x) {
    const Stored* k = row_of(j, a.kv.k_offset_bytes, a.shape.k_dim);
    weights[j - begin] = dot(a.q + row * a.shape.k_dim, k, a.shape.k_dim) * a.scale * a.kv.k_scale;
  }
  __syncthreads();
  const int n = position + 1 - begin;
  float m = -INFINITY;
  for (int j = 0; j < n; ++j) m = fmaxf(m, weights[j]);
  __syncthreads();
  for (int j = threadIdx.x; j < n; j += blockDim.x) weights[j] = expf(weights[j] - m);
  __syncthreads();
  double total = a.sinks ? exp(static_cast<double>(a.sinks[head]) - m) : 0.0;
  for (int j = 0; j < n; ++j) total += weights[j];
  for (int i = threadIdx.x; i < a.shape.v_dim; i += blockDim.x) {
    double sum = 0;
    for (int j = 0; j < n; ++j) {
      const Stored* v = row_of(begin + j, a.kv.v_offset_bytes, a.shape.v_dim);
      sum += static_cast<double>(weights[j]) * static_cast<float>(v[i]);
    }
    sum *= a.kv.v_scale / total;
    const double delta = static_cast<float>(a.out[row * a.shape.v_dim + i]) - sum;
    atomicAdd(a.sums, delta * delta);
    atomicAdd(a.sums + 1, sum * sum);
  }
}

template <class T>
T* device(size_t n) {
  void* data = nullptr;
  CHECK_CUDA(cudaMalloc(&data, std::max<size_t>(n, 1) * sizeof(T)));
  return static_cast<T*>(data);
}

// Everything one case needs; freed with the process's memory pool at the end of the case.
class Case {
 public:
  explicit Case(const Setup& setup) : setup_(setup), shape_(setup.shape) {
    lay_out();
    const auto n_q = static_cast<size_t>(setup.q_len) * static_cast<size_t>(shape_.heads);
    q_ = device<__nv_bfloat16>(n_q * static_cast<size_t>(shape_.k_dim));
    out_bytes_ = n_q * static_cast<size_t>(shape_.v_dim) * 2;
    out_ = device<__nv_bfloat16>(out_bytes_ / 2);
    CHECK_CUDA(cudaMemset(out_, 0xFF, out_bytes_));
    fill_normal<<<1024, 256>>>(q_, static_cast<int64_t>(n_q) * shape_.k_dim, 1);
    std::vector<float> sinks(static_cast<size_t>(shape_.heads));
    for (size_t i = 0; i < sinks.size(); ++i) sinks[i] = static_cast<float>(i % 7) - 2;
    sinks_ = device<float>(sinks.size());
    CHECK_CUDA(cudaMemcpy(sinks_, sinks.data(), sinks.size() * 4, cudaMemcpyHostToDevice));
    seq_ = {.q_len = setup.q_len, .kv_len = setup.kv_len, .pages = table_};
    plan_ = plan_cuda(shape_, wgmma_tiling(shape_, kv_, DType::bf16), std::span(&seq_, 1), 132);
    workspace_ = device<std::byte>(static_cast<size_t>(plan_.workspace_bytes));
    upload(plan_, workspace_, nullptr);
  }
  ~Case() {
    for (void* p :
         {static_cast<void*>(arena_), static_cast<void*>(table_), static_cast<void*>(q_),
          static_cast<void*>(out_), static_cast<void*>(sinks_), static_cast<void*>(workspace_)})
      cudaFree(p);
  }

  void run() const {
    const AttnParams params{.q = ConstView(reinterpret_cast<std::byte*>(q_), DType::bf16,
                                           {setup_.q_len, shape_.heads, shape_.k_dim}),
                            .out = View(reinterpret_cast<std::byte*>(out_), DType::bf16,
                                        {setup_.q_len, shape_.heads, shape_.v_dim}),
                            .kv = kv_,
                            .scale = scale_,
                            .sinks = setup_.sinks ? sinks_ : nullptr,
                            .workspace = {workspace_, static_cast<size_t>(plan_.workspace_bytes)}};
    attention_cuda_wgmma(plan_, params, nullptr);
  }

  double error() const {
    std::mt19937 random(3);
    std::vector<int32_t> rows;
    for (int i = 0; i < kSamples; ++i)
      rows.push_back(
          static_cast<int32_t>(random() % static_cast<uint32_t>(setup_.q_len * shape_.heads)));
    auto* device_rows = device<int32_t>(kSamples);
    auto* sums = device<double>(2);
    CHECK_CUDA(cudaMemcpy(device_rows, rows.data(), kSamples * 4, cudaMemcpyHostToDevice));
    CHECK_CUDA(cudaMemset(sums, 0, 16));
    const CheckArgs args{.shape = shape_,
                         .seq = seq_,
                         .kv = kv_,
                         .q = q_,
                         .out = out_,
                         .sinks = setup_.sinks ? sinks_ : nullptr,
                         .rows = device_rows,
                         .scale = scale_,
                         .sums = sums};
    const auto check =
        setup_.pages == DType::bf16 ? check_rows<__nv_bfloat16> : check_rows<__nv_fp8_e4m3>;
    const int bytes = setup_.kv_len * 4;
    CHECK_CUDA(cudaFuncSetAttribute(check, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
    check<<<kSamples, 256, bytes>>>(args);
    double result[2];
    CHECK_CUDA(cudaMemcpy(result, sums, 16, cudaMemcpyDeviceToHost));
    CHECK_CUDA(cudaFree(device_rows));
    CHECK_CUDA(cudaFree(sums));
    return std::sqrt(result[0] / result[1]);
  }

  double flops() const {
    double pairs = 0;
    for (int64_t i = 0; i < setup_.q_len; ++i) {
      const int64_t seen = setup_.kv_len - setup_.q_len + i + 1;
      pairs +=
          static_cast<double>(shape_.window > 0 ? std::min<int64_t>(seen, shape_.window) : seen);
    }
    return 2.0 * (shape_.k_dim + shape_.v_dim) * shape_.heads * pairs;
  }

 private:
  // Two layers' K and V in every page; ours are the second.
  void lay_out() {
    const int64_t element = size_of(setup_.pages);
    kv_ = {.page_tokens = setup_.page_tokens,
           .kv_heads = shape_.kv_heads,
           .k_dim = shape_.k_dim,
           .v_dim = shape_.v_dim,
           .dtype = setup_.pages};
    const int64_t k_bytes = element * shape_.kv_heads * kv_.page_tokens * shape_.k_dim;
    const int64_t v_bytes = element * shape_.kv_heads * kv_.page_tokens * shape_.v_dim;
    kv_.k_offset_bytes = k_bytes + v_bytes;
    kv_.v_offset_bytes = 2 * k_bytes + v_bytes;
    if (is_f8(setup_.pages)) kv_.k_scale = 0.9f, kv_.v_scale = 1.1f;
    const int64_t page_bytes = 2 * (k_bytes + v_bytes);
    const int64_t stride = (page_bytes + kGranuleBytes - 1) / kGranuleBytes;
    const int64_t n_pages = (setup_.kv_len + kv_.page_tokens - 1) / kv_.page_tokens;
    const int64_t bytes = n_pages * stride * kGranuleBytes;
    arena_ = device<std::byte>(static_cast<size_t>(bytes));
    if (element == 2)
      fill_normal<<<1024, 256>>>(reinterpret_cast<__nv_bfloat16*>(arena_), bytes / 2, 2);
    else
      fill_normal<<<1024, 256>>>(reinterpret_cast<__nv_fp8_e4m3*>(arena_), bytes, 2);
    kv_.base = arena_;
    std::vector<uint32_t> table(static_cast<size_t>(n_pages));
    for (size_t i = 0; i < table.size(); ++i)
      table[i] = static_cast<uint32_t>(static_cast<int64_t>(i) * stride);
    if (setup_.scattered) std::shuffle(table.begin(), table.end(), std::mt19937(5));
    table_ = device<uint32_t>(table.size());
    CHECK_CUDA(cudaMemcpy(table_, table.data(), table.size() * 4, cudaMemcpyHostToDevice));
  }

  Setup setup_;
  AttnShape shape_;
  PagedView kv_;
  AttnSeq seq_;
  CudaPlan plan_;
  std::byte* arena_ = nullptr;
  std::byte* workspace_ = nullptr;
  uint32_t* table_ = nullptr;
  __nv_bfloat16* q_ = nullptr;
  __nv_bfloat16* out_ = nullptr;
  float* sinks_ = nullptr;
  size_t out_bytes_ = 0;
  float scale_ = 2.0f / std::sqrt(192.0f);
};

// After a rest, so that no case runs on a card that the one before made hot.
double median_us(const Case& c, void* flush, size_t flush_bytes) {
  std::this_thread::sleep_for(std::chrono::milliseconds(500));
  cudaEvent_t begin, end;
  CHECK_CUDA(cudaEventCreate(&begin));
  CHECK_CUDA(cudaEventCreate(&end));
  std::vector<float> times;
  for (int i = 0; i < kRepetitions; ++i) {
    CHECK_CUDA(cudaMemsetAsync(flush, i, flush_bytes));
    CHECK_CUDA(cudaEventRecord(begin));
    c.run();
    CHECK_CUDA(cudaEventRecord(end));
    CHECK_CUDA(cudaEventSynchronize(end));
    times.push_back(0);
    CHECK_CUDA(cudaEventElapsedTime(&times.back(), begin, end));
  }
  CHECK_CUDA(cudaEventDestroy(begin));
  CHECK_CUDA(cudaEventDestroy(end));
  std::sort(times.begin(), times.end());
  return 1e3 * times[times.size() / 2];
}

void bench(const char* only) {
  constexpr size_t kFlushBytes = size_t{256} << 20;
  auto* flush = device<std::byte>(kFlushBytes);
  std::printf("%-28s %9s %9s %9s %7s %9s\n", "case", "us", "bar", "TFLOP/s", "of 795", "error");
  for (const Setup& setup : kSetups) {
    if (only != nullptr && std::strstr(setup.name, only) == nullptr) continue;
    const Case c(setup);
    c.run();
    CHECK_CUDA(cudaDeviceSynchronize());
    const double error = c.error();
    const double us = median_us(c, flush, kFlushBytes);
    const double rate = c.flops() / us * 1e6;
    std::printf("%-28s %9.1f %9.0f %9.1f %6.1f%% %9.2e\n", setup.name, us, setup.bar_us,
                rate / 1e12, 100 * rate / kPeakFlops, error);
    std::fflush(stdout);
  }
  CHECK_CUDA(cudaFree(flush));
}

}  // namespace
}  // namespace ashlar

int main(int argc, char** argv) {
  ashlar::bench(argc > 1 ? argv[1] : nullptr);
  return 0;
}
