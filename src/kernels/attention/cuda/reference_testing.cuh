#pragma once

// Chosen rows of attention in double, on the device, straight from its pages: what CUDA bodies are
// held against where the reference on the host would take minutes. A test holds it against that
// reference. Test code only.

#include <math_constants.h>

#include "kernels/attention/cuda/attention_cuda.h"
#include "kernels/attention/cuda/element.cuh"
#include "kernels/cuda/testing.cuh"

namespace ashlar::cuda {

struct ReferenceRow {
  int32_t seq = 0;
  int32_t token = 0;  // of the sequence's q_len
  int32_t head = 0;
};

struct ReferenceArgs {
  AttnShape shape;  // v_dim of out, where kv has none
  PagedView kv;
  const void* q;
  DType q_dtype;
  float scale;
  float softcap;
  const float* sinks;
  const AttnSeq* seqs;
  const ReferenceRow* rows;
  double* scores;  // [rows, longest]
  int64_t longest;
  float* out;  // [rows, v_dim]
};

static __device__ double element(const std::byte* row, DType dtype, int i) {
  if (dtype == DType::f8e4m3) return to_f32(reinterpret_cast<const __nv_fp8_e4m3*>(row)[i]);
  if (dtype == DType::f8e5m2) return to_f32(reinterpret_cast<const __nv_fp8_e5m2*>(row)[i]);
  return load(row, dtype, i);
}

// A token's K or V, and what its numbers count.
struct ReferenceToken {
  const std::byte* row;
  double scale = 1;

  __device__ ReferenceToken(const PagedView& kv, const uint32_t* pages, int position, int head,
                            bool of_v) {
    const std::byte* page = kv.base + pages[position / kv.page_tokens] * kGranuleBytes;
    const int64_t slot = int64_t{head} * kv.page_tokens + position % kv.page_tokens;
    const bool v = of_v && kv.v_dim > 0;
    row = page + (v ? kv.v_offset_bytes : kv.k_offset_bytes) +
          slot * (v ? kv.v_dim : kv.k_dim) * bytes_of(kv.dtype);
    if (bytes_of(kv.dtype) > 1) return;
    scale = v ? kv.v_scale : kv.k_scale;
    if (kv.scales_offset_bytes < 0) return;
    const int64_t before = v ? int64_t{kv.kv_heads} * kv.page_tokens : 0;
    scale = reinterpret_cast<const float*>(page + kv.scales_offset_bytes)[before + slot];
  }
};

constexpr int kReferenceThreads = 256;

// The sum, or the greatest, of what the threads of the block hold.
static __device__ double block_fold(double value, bool greatest) {
  __shared__ double values[kReferenceThreads];
  __syncthreads();
  values[threadIdx.x] = value;
  for (unsigned half = kReferenceThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x >= half) continue;
    const double other = values[threadIdx.x + half];
    values[threadIdx.x] = greatest ? fmax(values[threadIdx.x], other) : values[threadIdx.x] + other;
  }
  __syncthreads();
  return values[0];
}

// A block for each row. One warp makes a score.
static __global__ void attend_in_double(const ReferenceArgs a) {
  const ReferenceRow row = a.rows[blockIdx.x];
  const AttnSeq seq = a.seqs[row.seq];
  const int kv_head = row.head / (a.shape.heads / a.shape.kv_heads);
  const int position = seq.kv_len - seq.q_len + row.token;
  const int begin = a.shape.window > 0 ? max(0, position - a.shape.window + 1) : 0;
  const int n = (a.shape.causal ? position + 1 : seq.kv_len) - begin;
  const int64_t query = ((int64_t{seq.q_begin} + row.token) * a.shape.heads + row.head);
  double* scores = a.scores + blockIdx.x * a.longest;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  for (int j = static_cast<int>(threadIdx.x) / 32; j < n; j += kReferenceThreads / 32) {
    const ReferenceToken k(a.kv, seq.pages, begin + j, kv_head, false);
    double dot = 0;
    for (int i = lane; i < a.shape.k_dim; i += 32)
      dot += load(a.q, a.q_dtype, query * a.shape.k_dim + i) * element(k.row, a.kv.dtype, i);
    for (int step = 16; step > 0; step /= 2) dot += __shfl_xor_sync(~0u, dot, step);
    double s = dot * k.scale * a.scale;
    if (a.softcap != 0) s = a.softcap * tanh(s / a.softcap);
    if (lane == 0) scores[j] = s;
  }
  __syncthreads();
  double most = a.sinks ? a.sinks[row.head] : -CUDART_INF, sum = 0;
  for (int j = static_cast<int>(threadIdx.x); j < n; j += kReferenceThreads)
    most = fmax(most, scores[j]);
  most = block_fold(most, true);
  for (int j = static_cast<int>(threadIdx.x); j < n; j += kReferenceThreads)
    sum += scores[j] = exp(scores[j] - most);
  sum = block_fold(sum, false) + (a.sinks ? exp(a.sinks[row.head] - most) : 0.0);
  for (int i = static_cast<int>(threadIdx.x); i < a.shape.v_dim; i += kReferenceThreads) {
    double total = 0;
    for (int j = 0; j < n; ++j) {
      const ReferenceToken v(a.kv, seq.pages, begin + j, kv_head, true);
      total += scores[j] * v.scale * element(v.row, a.kv.dtype, i);
    }
    a.out[int64_t{blockIdx.x} * a.shape.v_dim + i] = static_cast<float>(total / sum);
  }
}

// [rows, v_dim]. Device pointers in params and in seqs[i].pages; out and workspace are not looked
// at.
inline std::vector<float> reference_rows(const AttnShape& shape, const AttnParams& params,
                                         const std::vector<AttnSeq>& seqs,
                                         const std::vector<ReferenceRow>& rows) {
  constexpr size_t kAtOnce = 8192;  // rows: of their scores, memory holds no more
  int32_t longest = 1;
  for (const AttnSeq& seq : seqs) longest = std::max(longest, seq.kv_len);
  const DeviceBytes device_seqs(seqs), device_rows(rows);
  const size_t n_at_once = std::min(kAtOnce, rows.size());
  const DeviceBytes scores(n_at_once * static_cast<size_t>(longest) * sizeof(double));
  const auto width = static_cast<size_t>(shape.v_dim);
  const DeviceBytes out(rows.size() * width * sizeof(float));
  for (size_t begin = 0; begin < rows.size(); begin += kAtOnce) {
    const auto n = static_cast<unsigned>(std::min(kAtOnce, rows.size() - begin));
    attend_in_double<<<n, kReferenceThreads>>>({.shape = shape,
                                                .kv = params.kv,
                                                .q = params.q.data,
                                                .q_dtype = params.q.dtype,
                                                .scale = params.scale,
                                                .softcap = params.softcap,
                                                .sinks = params.sinks,
                                                .seqs = device_seqs.as<AttnSeq>(),
                                                .rows = device_rows.as<ReferenceRow>() + begin,
                                                .scores = scores.as<double>(),
                                                .longest = longest,
                                                .out = out.as<float>() + begin * width});
    CHECK_CUDA(cudaGetLastError());
  }
  CHECK_CUDA(cudaDeviceSynchronize());
  return out.read<float>();
}

}  // namespace ashlar::cuda
