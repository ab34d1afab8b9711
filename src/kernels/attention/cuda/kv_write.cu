// kv_write_cuda: a warp for each row of K or V.

#include <cuda_runtime.h>

#include <limits>

#include "kernels/attention/cuda/attention_cuda.h"
#include "kernels/attention/cuda/element.cuh"
#include "kernels/cuda/launch.cuh"

namespace ashlar {
namespace {

constexpr int kWarp = 32;
constexpr int kThreads = 256;

struct WriteArgs {
  const void* k;
  const void* v;
  DType from;
  PagedView kv;
  const AttnSeq* seqs;
  int n_seqs;
  int64_t first_token;  // rows of k and v that the sequences span
  int64_t end_token;
  float v_multiplier;
};

// tensor/dtype.h's conversions, bit for bit, NaNs too: the device's own differ there.
__device__ uint16_t bf16_bits(float value) {
  const uint32_t bits = __float_as_uint(value);
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return static_cast<uint16_t>((bits >> 16) | 0x40);
  return static_cast<uint16_t>((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}
__device__ uint16_t f16_bits(float value) {
  if (isnan(value)) return static_cast<uint16_t>((__float_as_uint(value) >> 16 & 0x8000u) | 0x7E00);
  return __half_as_ushort(__float2half_rn(value));
}
// F8Format's numbers, worked out on the host.
template <class F8>
struct Code {
  static constexpr int kShift = F8::kFormat.shift();
  static constexpr uint32_t kRebias = F8::kFormat.rebias();
  static constexpr float kLargest = F8::kFormat.largest_value();
  static constexpr float kAligner = F8::kFormat.aligner();
};
constexpr float kFloatMax = std::numeric_limits<float>::max();

template <class F8>
__device__ uint8_t f8_bits(float value) {
  constexpr int kShift = Code<F8>::kShift;
  constexpr uint32_t kRebias = Code<F8>::kRebias;
  constexpr float kLargest = Code<F8>::kLargest, kAligner = Code<F8>::kAligner;
  const uint32_t bits = __float_as_uint(value), sign = bits >> 24 & 0x80u;
  uint32_t magnitude = bits & 0x7FFFFFFFu;
  if (magnitude > 0x7F800000u) return static_cast<uint8_t>(sign | 0x7F);
  magnitude = min(magnitude, __float_as_uint(kLargest));
  if (magnitude < kRebias + (1u << 23)) {
    const uint32_t code = __float_as_uint(__fadd_rn(__uint_as_float(magnitude), kAligner)) -
                          __float_as_uint(kAligner);
    return static_cast<uint8_t>(sign | code);
  }
  const uint32_t rounded = magnitude + (1u << (kShift - 1)) - 1 + (magnitude >> kShift & 1);
  return static_cast<uint8_t>(sign | ((rounded - kRebias) >> kShift));
}

__device__ float quiet(float nan) { return __uint_as_float(__float_as_uint(nan) | 0x400000u); }

__device__ void put(std::byte* to, DType dtype, int64_t i, float value) {
  switch (dtype) {
    case DType::f32: reinterpret_cast<float*>(to)[i] = value; return;
    case DType::bf16: reinterpret_cast<uint16_t*>(to)[i] = bf16_bits(value); return;
    case DType::f16: reinterpret_cast<uint16_t*>(to)[i] = f16_bits(value); return;
    case DType::f8e4m3: reinterpret_cast<uint8_t*>(to)[i] = f8_bits<F8E4M3>(value); return;
    case DType::f8e5m2: reinterpret_cast<uint8_t*>(to)[i] = f8_bits<F8E5M2>(value); return;
    default: return;
  }
}

// The scale of a row with its own: its largest |value| by the format's; a NaN is not a value here.
__device__ float row_scale(const WriteArgs& args, const void* from, int64_t at, int n,
                           float multiplier) {
  float largest = 0;
  for (int i = static_cast<int>(threadIdx.x) % kWarp; i < n; i += kWarp)
    largest = fmaxf(largest, fabsf(__fmul_rn(cuda::load(from, args.from, at + i), multiplier)));
  for (int step = kWarp / 2; step > 0; step /= 2)
    largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, step));
  const float format =
      args.kv.dtype == DType::f8e5m2 ? Code<F8E5M2>::kLargest : Code<F8E4M3>::kLargest;
  return fmaxf(__fdiv_rn(fminf(largest, kFloatMax), format), kSmallestTokenScale);
}

// The sequence of a row of k and v: sequences lie in the order of their rows.
__device__ int sequence_of(const WriteArgs& args, int64_t token) {
  int low = 0, high = args.n_seqs;  // the last that begins at or before the token and has rows
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    (args.seqs[middle].q_begin <= token ? low : high) = middle;
  }
  while (low > 0 && args.seqs[low].q_len == 0) --low;
  return low;
}

__global__ void __launch_bounds__(kThreads) write_rows(const WriteArgs args) {
  const PagedView& kv = args.kv;
  const int parts = kv.v_dim > 0 ? 2 : 1;
  const int64_t task = (int64_t{blockIdx.x} * kThreads + threadIdx.x) / kWarp;
  const int64_t token = args.first_token + task / (parts * kv.kv_heads);
  if (token >= args.end_token) return;
  const int part = static_cast<int>(task % parts);
  const int64_t head = task / parts % kv.kv_heads;
  const AttnSeq seq = args.seqs[sequence_of(args, token)];
  const auto index = static_cast<int>(token - seq.q_begin);
  if (index >= seq.q_len) return;  // between two sequences
  const int position = seq.kv_len - seq.q_len + index;
  std::byte* page = kv.base + int64_t{seq.pages[position / kv.page_tokens]} * kGranuleBytes;
  const int64_t row = head * kv.page_tokens + position % kv.page_tokens;

  const int n = part ? kv.v_dim : kv.k_dim;
  const void* from = part ? args.v : args.k;
  const int64_t at = (token * kv.kv_heads + head) * n;
  const float multiplier = part ? args.v_multiplier : 1.0f;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int bytes = cuda::bytes_of(kv.dtype);
  float scale = bytes > 1 ? 1.0f : part ? kv.v_scale : kv.k_scale;
  if (bytes == 1 && kv.scales_offset_bytes >= 0) {
    scale = row_scale(args, from, at, n, multiplier);
    auto* scales = reinterpret_cast<float*>(page + kv.scales_offset_bytes);
    if (lane == 0) scales[int64_t{part} * kv.kv_heads * kv.page_tokens + row] = scale;
  }
  std::byte* to = page + (part ? kv.v_offset_bytes : kv.k_offset_bytes) + row * n * bytes;
  for (int i = lane; i < n; i += kWarp) {
    const float value = cuda::load(from, args.from, at + i);
    // The device's arithmetic forgets a NaN's sign and bits.
    put(to, kv.dtype, i,
        isnan(value) ? quiet(value) : __fdiv_rn(__fmul_rn(value, multiplier), scale));
  }
}

}  // namespace

void kv_write_cuda(const CudaPlan& plan, const KvWriteParams& params, const std::byte* workspace,
                   CUstream_st* stream) {
  CHECK(params.stats == nullptr, "stats are not kept on CUDA");
  CHECK(is_float(params.k.dtype) && (params.kv.v_dim == 0 || params.v.dtype == params.k.dtype),
        "k {} v {}", name(params.k.dtype), name(params.v.dtype));
  const auto* seqs = reinterpret_cast<const AttnSeq*>(plan.image.data());
  for (int32_t i = 1; i < plan.n_seqs; ++i)
    CHECK(seqs[i].q_begin >= seqs[i - 1].q_begin + seqs[i - 1].q_len, "rows of sequence {}", i);
  if (plan.n_seqs == 0) return;
  const AttnSeq& last = seqs[plan.n_seqs - 1];
  const WriteArgs args{.k = params.k.data,
                       .v = params.v.data,
                       .from = params.k.dtype,
                       .kv = params.kv,
                       .seqs = reinterpret_cast<const AttnSeq*>(workspace),
                       .n_seqs = plan.n_seqs,
                       .first_token = seqs[0].q_begin,
                       .end_token = last.q_begin + last.q_len,
                       .v_multiplier = params.v_multiplier};
  const int64_t n_tasks =
      (args.end_token - args.first_token) * params.kv.kv_heads * (params.kv.v_dim > 0 ? 2 : 1);
  if (n_tasks == 0) return;
  constexpr int64_t kTasks = kThreads / kWarp;
  write_rows<<<static_cast<unsigned>((n_tasks + kTasks - 1) / kTasks), kThreads, 0, stream>>>(args);
  CHECK_CUDA(cudaGetLastError());
}

}  // namespace ashlar
