#pragma once

// What the launches of the mma and decode bodies tell their kernels.

#include <bit>

#include "kernels/attention/cuda/mma_layout.cuh"
#include "kernels/attention/cuda/state.cuh"

namespace ashlar::cuda {

inline MmaArgs mma_args(const CudaPlan& plan, const AttnParams& p) {
  const AttnShape& shape = plan.shape;
  const bool token_scales = p.kv.has_token_scales();
  const bool tensor_scales = is_f8(p.kv.dtype) && !token_scales;
  const float k_scale = p.scale * (tensor_scales ? p.kv.k_scale : 1.0f);
  const std::byte* workspace = p.workspace.data();
  return {
      .q = p.q.data,
      .out = p.out.data,
      .k = p.kv.base + p.kv.k_offset_bytes,
      .v = p.kv.base + p.kv.v_offset_bytes,
      .scales = token_scales ? p.kv.base + p.kv.scales_offset_bytes : nullptr,
      .page_shift = std::countr_zero(static_cast<uint32_t>(p.kv.page_tokens)),
      .kv_heads = shape.kv_heads,
      .heads = shape.heads,
      .logit_scale = p.softcap != 0 ? k_scale / p.softcap : k_scale * kLog2E,
      .softcap_log2 = p.softcap * kLog2E,
      .v_scale = tensor_scales ? p.kv.v_scale : 1.0f,
      .sinks = p.sinks,
      .window = shape.window,
      .causal = shape.causal,
      .is_bf16 = p.q.dtype == DType::bf16,
      .works = reinterpret_cast<const CudaWork*>(workspace + plan.works_offset),
      // One read less before a block can start, where it may as well do without.
      .queue = plan.n_works == plan.n_blocks
                   ? nullptr
                   : reinterpret_cast<const int32_t*>(workspace + plan.queue_offset),
      .n_works = plan.n_works,
      .states = reinterpret_cast<float*>(p.workspace.data() + plan.states_offset),
      .state_floats = plan.state_bytes / int64_t{sizeof(float)},
      .kv_split = plan.tiling.kv_split,
  };
}

}  // namespace ashlar::cuda
