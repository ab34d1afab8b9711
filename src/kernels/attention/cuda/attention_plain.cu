// The plain body: a block for each query row, any widths and element types, f32 throughout. It
// walks the sequences of the image and takes no notice of works.

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <algorithm>

#include "kernels/attention/cuda/attention_cuda.h"
#include "kernels/attention/cuda/element.cuh"
#include "kernels/attention/cuda/state.cuh"
#include "kernels/cuda/launch.cuh"

namespace ashlar {
namespace {

constexpr int kWarps = 8;
constexpr int kWarp = 32;

struct PlainArgs {
  AttnShape shape;
  PagedView kv;
  const void* q;
  void* out;
  DType q_dtype;
  float scale;
  float softcap;
  const float* sinks;
  const AttnSeq* seqs;
};

__device__ float warp_sum(float value) {
  for (int step = kWarp / 2; step > 0; step /= 2) value += __shfl_xor_sync(~0u, value, step);
  return value;
}

// Where a token's K and V lie, and what their numbers count.
struct Token {
  const std::byte* k;
  const std::byte* v;
  float k_scale = 1;
  float v_scale = 1;

  __device__ Token(const PagedView& kv, const uint32_t* pages, int position, int head) {
    const int64_t granule = pages[position / kv.page_tokens];
    const std::byte* page = kv.base + granule * kGranuleBytes;
    const int64_t row = int64_t{head} * kv.page_tokens + position % kv.page_tokens;
    const int64_t bytes = cuda::bytes_of(kv.dtype);
    k = page + kv.k_offset_bytes + row * kv.k_dim * bytes;
    v = kv.v_dim > 0 ? page + kv.v_offset_bytes + row * kv.v_dim * bytes : k;
    if (bytes > 1) return;
    k_scale = kv.k_scale, v_scale = kv.v_dim > 0 ? kv.v_scale : kv.k_scale;
    if (kv.scales_offset_bytes < 0) return;
    const float* scales = reinterpret_cast<const float*>(page + kv.scales_offset_bytes) + row;
    k_scale = scales[0];
    v_scale = kv.v_dim > 0 ? scales[int64_t{kv.kv_heads} * kv.page_tokens] : k_scale;
  }
};

// The score of one token, in units of log 2; the same in every lane.
template <class Stored>
__device__ float score(const PlainArgs& args, const float* q, const Token& token) {
  float dot = 0;
  for (int i = static_cast<int>(threadIdx.x) % kWarp; i < args.shape.k_dim; i += kWarp)
    dot += q[i] * cuda::to_f32(reinterpret_cast<const Stored*>(token.k)[i]);
  float s = warp_sum(dot) * token.k_scale * args.scale;
  if (args.softcap != 0) s = args.softcap * tanhf(s / args.softcap);
  return s * cuda::kLog2E;
}

// Adds the states of the block's warps in order and writes the row.
__device__ void write_row(const PlainArgs& args, const float* o, const float2* sums, int64_t row,
                          int head) {
  float m = -CUDART_INF_F, d = 0;
  for (int w = 0; w < kWarps; ++w) {
    const cuda::Fold fold(m, sums[w].x);
    m = fold.m, d = fold(d, sums[w].y);
  }
  const float factor = cuda::final_factor(m, d, cuda::sink_of(args.sinks, head), 1.0f);
  for (int i = static_cast<int>(threadIdx.x); i < args.shape.v_dim; i += kWarps * kWarp) {
    float sum = 0;
    for (int w = 0; w < kWarps; ++w)
      sum += o[w * args.shape.v_dim + i] * cuda::exp2_approx(sums[w].x - cuda::reference_of(m));
    cuda::store(args.out, args.q_dtype, row * args.shape.v_dim + i, sum * factor);
  }
}

// Block (row, sequence): warps take tokens in turn.
template <class Stored>
__global__ void __launch_bounds__(kWarps* kWarp) attend_rows(const PlainArgs args) {
  extern __shared__ float shared[];
  const AttnShape& shape = args.shape;
  const AttnSeq seq = args.seqs[blockIdx.y];
  const int query = static_cast<int>(blockIdx.x) / shape.heads;
  const int head = static_cast<int>(blockIdx.x) % shape.heads;
  if (query >= seq.q_len) return;
  const int64_t row = (int64_t{seq.q_begin} + query) * shape.heads + head;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  float* q = shared;
  float* all_o = q + shape.k_dim;
  float* o = all_o + warp * shape.v_dim;
  __shared__ float2 sums[kWarps];
  for (int i = static_cast<int>(threadIdx.x); i < shape.k_dim; i += kWarps * kWarp)
    q[i] = cuda::load(args.q, args.q_dtype, row * shape.k_dim + i);
  for (int i = lane; i < shape.v_dim; i += kWarp) o[i] = 0;
  __syncthreads();

  const int position = seq.kv_len - seq.q_len + query;
  const int begin = shape.window > 0 ? max(0, position - shape.window + 1) : 0;
  const int end = shape.causal ? position + 1 : seq.kv_len;
  float m = -CUDART_INF_F, d = 0;
  for (int j = begin + warp; j < end; j += kWarps) {
    const Token token(args.kv, seq.pages, j, head / (shape.heads / shape.kv_heads));
    const float s = score<Stored>(args, q, token);
    const cuda::Fold fold(m, s);
    m = fold.m, d = fold(d, 1.0f);
    const auto* v = reinterpret_cast<const Stored*>(token.v);
    for (int i = lane; i < shape.v_dim; i += kWarp)
      o[i] = fold(o[i], cuda::to_f32(v[i]) * token.v_scale);
  }
  if (lane == 0) sums[warp] = make_float2(m, d);
  __syncthreads();
  write_row(args, all_o, sums, row, head);
}

auto body_of(DType pages) {
  switch (pages) {
    case DType::f32: return attend_rows<float>;
    case DType::bf16: return attend_rows<__nv_bfloat16>;
    case DType::f16: return attend_rows<__half>;
    case DType::f8e4m3: return attend_rows<__nv_fp8_e4m3>;
    case DType::f8e5m2: return attend_rows<__nv_fp8_e5m2>;
    default: break;
  }
  CHECK(false, "{} pages", name(pages));
  return attend_rows<float>;
}

}  // namespace

void attention_cuda_plain(const CudaPlan& plan, const AttnParams& params, CUstream_st* stream) {
  const auto* seqs = reinterpret_cast<const AttnSeq*>(plan.image.data());
  int32_t longest = 0;
  for (int32_t i = 0; i < plan.n_seqs; ++i) longest = std::max(longest, seqs[i].q_len);
  if (longest == 0) return;
  const PlainArgs args{.shape = plan.shape,
                       .kv = params.kv,
                       .q = params.q.data,
                       .out = params.out.data,
                       .q_dtype = params.q.dtype,
                       .scale = params.scale,
                       .softcap = params.softcap,
                       .sinks = params.sinks,
                       .seqs = reinterpret_cast<const AttnSeq*>(params.workspace.data())};
  const dim3 grid(static_cast<unsigned>(longest * plan.shape.heads),
                  static_cast<unsigned>(plan.n_seqs));
  const auto floats = static_cast<size_t>(plan.shape.k_dim + kWarps * plan.shape.v_dim);
  const auto body = body_of(params.kv.dtype);
  CHECK_CUDA(cudaFuncSetAttribute(body, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  static_cast<int>(floats * sizeof(float))));
  body<<<grid, kWarps * kWarp, floats * sizeof(float), stream>>>(args);
  CHECK_CUDA(cudaGetLastError());
}

}  // namespace ashlar
