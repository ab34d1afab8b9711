#pragma once

// What the launches of the CUDA bodies of latent attention share.

#include <cudaTypedefs.h>

#include <bit>

#include "kernels/cuda/launch.cuh"
#include "kernels/latent/cuda/tile.cuh"

namespace ashlar::cuda {

inline void check_latent(const CudaPlan& plan, const LatentParams& p) {
  CHECK(p.kv.kv_heads == 1 && p.kv.k_dim == kLatentQ, "rows of {} x {}", p.kv.kv_heads, p.kv.k_dim);
  CHECK(p.q.dtype == DType::bf16 || p.q.dtype == DType::f16, "q {}", name(p.q.dtype));
  CHECK(p.out.dtype == p.q.dtype, "out {}, q {}", name(p.out.dtype), name(p.q.dtype));
  CHECK(is_f8(p.kv.dtype) || p.kv.dtype == p.q.dtype, "rows {}, q {}", name(p.kv.dtype),
        name(p.q.dtype));
  CHECK(p.kv.page_tokens == 16 || p.kv.page_tokens == 32 || p.kv.page_tokens == 64,
        "pages of {} tokens: 16, 32 or 64", p.kv.page_tokens);
  CHECK(p.kv.k_offset_bytes % 16 == 0, "rows begin at {}", p.kv.k_offset_bytes);
  CHECK(!p.kv.has_token_scales(), "one scale a tensor");
  CHECK(static_cast<int64_t>(p.workspace.size()) >= plan.workspace_bytes, "workspace {} of {}",
        p.workspace.size(), plan.workspace_bytes);
}

inline LatentArgs latent_args(const CudaPlan& plan, const LatentParams& p, int block_rows,
                              int64_t block_bytes = 0) {
  const int blocks = plan.tiling.rows / block_rows;
  check_latent(plan, p);
  const std::byte* image = p.workspace.data();
  const float scale = is_f8(p.kv.dtype) ? p.kv.k_scale : 1.0f;
  return {
      .works = reinterpret_cast<const CudaWork*>(image + plan.works_offset),
      .queue = plan.n_works == plan.n_blocks
                   ? nullptr
                   : reinterpret_cast<const int32_t*>(image + plan.queue_offset),
      .states = reinterpret_cast<float*>(p.workspace.data() + plan.states_offset),
      .scratch = p.workspace.data() + (plan.workspace_bytes - plan.n_blocks * blocks * block_bytes),
      .q = p.q.data,
      .out = p.out.data,
      .rows = p.kv.base + p.kv.k_offset_bytes,
      .heads = plan.shape.heads,
      .page_shift = std::countr_zero(static_cast<uint32_t>(p.kv.page_tokens)),
      .blocks = blocks,
      .tile_rows = plan.tiling.rows,
      .kv_split = plan.tiling.kv_split,
      .group = plan.tiling.group,
      .score_scale = p.scale * scale * kLog2E,
      .v_scale = scale};
}

// Rows for the tensor copies: [granules][page_tokens][576], boxes of `box_width` columns of
// `box_tokens` tokens, in lines of 64 or 128 bytes. A table's entry is a coordinate: consecutive
// granules overlap, and nobody tells where the cache ends.
inline CUtensorMap row_map(const PagedView& kv, int box_tokens, int box_width = 64) {
  void* found = nullptr;
  cudaDriverEntryPointQueryResult result{};
  CHECK_CUDA(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000,
                                              cudaEnableDefault, &result));
  CHECK(result == cudaDriverEntryPointSuccess, "cuTensorMapEncodeTiled: {}",
        static_cast<int>(result));
  const auto encode = reinterpret_cast<PFN_cuTensorMapEncodeTiled_v12000>(found);
  const bool f8 = is_f8(kv.dtype);
  const cuuint64_t sizes[] = {kLatentQ, static_cast<cuuint64_t>(kv.page_tokens), uint64_t{1} << 31};
  const cuuint64_t strides[] = {static_cast<cuuint64_t>(kLatentQ * size_of(kv.dtype)),
                                kGranuleBytes};
  const cuuint32_t box[] = {static_cast<cuuint32_t>(box_width), static_cast<cuuint32_t>(box_tokens),
                            1};
  const cuuint32_t steps[] = {1, 1, 1};
  CUtensorMap map{};
  const CUresult encoded =
      encode(&map, f8 ? CU_TENSOR_MAP_DATA_TYPE_UINT8 : CU_TENSOR_MAP_DATA_TYPE_UINT16, 3,
             kv.base + kv.k_offset_bytes, sizes, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
             f8 && box_width == 64 ? CU_TENSOR_MAP_SWIZZLE_64B : CU_TENSOR_MAP_SWIZZLE_128B,
             CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  CHECK(encoded == CUDA_SUCCESS, "cuTensorMapEncodeTiled: {}", static_cast<int>(encoded));
  return map;
}

// The second launch, where a plan divides rows.
inline void merge_latents(const CudaPlan& plan, const LatentParams& p, CUstream_st* stream) {
  const AttnParams params{.q = p.q, .out = p.out, .kv = p.kv, .workspace = p.workspace};
  merge_states(plan, params, is_f8(p.kv.dtype) ? p.kv.k_scale : 1.0f, stream);
}

}  // namespace ashlar::cuda
