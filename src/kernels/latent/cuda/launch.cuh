#pragma once

// What the launches of the CUDA bodies of latent attention share.

#include <bit>

#include "kernels/cuda/tensor_map.cuh"
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

// The second launch, where a plan divides rows.
inline void merge_latents(const CudaPlan& plan, const LatentParams& p, CUstream_st* stream) {
  const AttnParams params{.q = p.q, .out = p.out, .kv = p.kv, .workspace = p.workspace};
  merge_states(plan, params, is_f8(p.kv.dtype) ? p.kv.k_scale : 1.0f, stream);
}

}  // namespace ashlar::cuda
