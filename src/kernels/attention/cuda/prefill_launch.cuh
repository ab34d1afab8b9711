#pragma once

// Starts one prefill kernel, and the rows that files of kernels give to the choice between them.

#include <algorithm>
#include <bit>

#include "kernels/attention/cuda/prefill.cuh"
#include "kernels/cuda/tensor_map.cuh"

namespace ashlar::cuda {

// One kernel: what it holds and up to which widths.
struct PrefillKernel {
  DType q;
  DType stored;
  bool token_scales;
  bool window;   // made for windows of a few tiles
  int32_t rows;  // of a work
  int32_t k_width;
  int32_t v_width;
  CudaAttentionFn run;
};

// Each file's kernels, narrowest first.
std::span<const PrefillKernel> prefill_bf16();
std::span<const PrefillKernel> prefill_f16();
std::span<const PrefillKernel> prefill_f8();

// Copies stay within pages.
template <class P>
int32_t box_tokens(const PagedView& kv) {
  int32_t tokens = P::kBoxTokens;
  while (kv.page_tokens % tokens != 0) tokens /= 2;
  return tokens;
}

inline CUtensorMap q_map(const CudaPlan& plan, const ConstView& q) {
  const AttnShape& s = plan.shape;
  const int32_t heads = std::min(s.heads / s.kv_heads, plan.tiling.rows);
  const auto row = static_cast<cuuint64_t>(2 * s.k_dim);
  const auto n_heads = static_cast<cuuint64_t>(s.heads);
  return tensor_map<3>(
      {.base = q.data,
       .dims = {static_cast<cuuint64_t>(s.k_dim), n_heads, static_cast<cuuint64_t>(q.shape[0])},
       .strides = {row, row * n_heads},
       .box = {kChunk, static_cast<cuuint32_t>(heads),
               static_cast<cuuint32_t>(plan.tiling.rows / heads)}},
      2);
}

template <class P>
PrefillParams prefill_params(const CudaPlan& plan, const AttnParams& params) {
  const PagedView& kv = params.kv;
  const int32_t heads = std::min(plan.shape.heads / plan.shape.kv_heads, plan.tiling.rows);
  std::byte* image = params.workspace.data();
  PrefillParams p{.seqs = reinterpret_cast<const AttnSeq*>(image),
                  .works = reinterpret_cast<const CudaWork*>(image + plan.works_offset),
                  .next = reinterpret_cast<int32_t*>(image + plan.queue_offset),
                  .n_works = plan.n_works,
                  .shape = plan.shape,
                  .q_rows = plan.tiling.rows / heads * heads,
                  .page_tokens = kv.page_tokens,
                  .page_shift = std::countr_zero(static_cast<uint32_t>(kv.page_tokens)),
                  .box_tokens = box_tokens<P>(kv),
                  .k = kv.base + kv.k_offset_bytes,
                  .v = kv.base + kv.v_offset_bytes,
                  .scales = kv.base + kv.scales_offset_bytes,
                  .out = params.out.data,
                  .sinks = params.sinks};
  constexpr bool kOneScale = P::kWiden && !P::kTokenScales;
  p.score_factor = params.scale * (kOneScale ? kv.k_scale : 1.0f);
  p.v_scale = kOneScale ? kv.v_scale : 1.0f;
  if (params.softcap > 0) {
    p.score_factor /= params.softcap;
    p.softcap = params.softcap * kLog2E;
  } else {
    p.score_factor *= kLog2E;
  }
  return p;
}

template <class P>
void launch_prefill(const CudaPlan& plan, const AttnParams& params, CUstream_st* stream) {
  const PrefillParams p = prefill_params<P>(plan, params);
  CUtensorMap k{}, v{};
  if constexpr (!P::kWiden) {
    k = page_map(params.kv, p.k, plan.shape.k_dim, p.box_tokens);
    v = page_map(params.kv, p.v, plan.shape.v_dim, p.box_tokens);
  }
  int device = 0, n_sms = 0;
  CHECK_CUDA(cudaGetDevice(&device));
  CHECK_CUDA(cudaDeviceGetAttribute(&n_sms, cudaDevAttrMultiProcessorCount, device));
  constexpr int kBytes = sizeof(PrefillShared<P>);
  CHECK_CUDA(cudaFuncSetAttribute(prefill<P>, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes));
  prefill<P><<<std::min(n_sms, plan.n_works), P::kThreads, kBytes, stream>>>(
      p, q_map(plan, params.q), k, v);
  CHECK_CUDA(cudaGetLastError());
}

// A row of a file's list.
template <class QHalf, DType kStored, int kKWidth, int kVWidth, PrefillTile kTile>
constexpr PrefillKernel prefill_kernel() {
  using P = PrefillPolicy<QHalf, kStored, kKWidth, kVWidth, kTile>;
  return {.q = std::is_same_v<typename P::QHalf, __half> ? DType::f16 : DType::bf16,
          .stored = P::kStored,
          .token_scales = P::kTokenScales,
          .window = P::kWindow,
          .rows = P::kRows,
          .k_width = P::kKWidth,
          .v_width = P::kVWidth,
          .run = &launch_prefill<P>};
}

// The list for pages of queries' own 16-bit type.
template <class Half, DType kType>
std::span<const PrefillKernel> prefill_halves() {
  static constexpr PrefillKernel kKernels[] = {
      prefill_kernel<Half, kType, 64, 64, kLongTile>(),
      prefill_kernel<Half, kType, 128, 128, kLongTile>(),
      prefill_kernel<Half, kType, 192, 128, kLongTile>(),
      prefill_kernel<Half, kType, 128, 128, kWindowTile>(),
      prefill_kernel<Half, kType, 192, 128, kWindowTile>(),
      prefill_kernel<Half, kType, 256, 256, kWideTile>(),
  };
  return kKernels;
}

}  // namespace ashlar::cuda
