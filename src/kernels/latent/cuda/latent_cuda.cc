#include "kernels/latent/cuda/latent_cuda.h"

#include <algorithm>

namespace ashlar {

CudaPlan plan_latent_cuda(const CudaLatentBody& body, const LatentShape& shape, DType stored,
                          std::span<const AttnSeq> seqs, int n_sms) {
  CHECK(shape.latent == kLatentWidth && shape.rope == kLatentRope, "latent {} + {}: {} has {} + {}",
        shape.latent, shape.rope, body.name, kLatentWidth, kLatentRope);
  const AttnShape rows{.heads = shape.heads,
                       .kv_heads = 1,
                       .k_dim = shape.latent + shape.rope,
                       .v_dim = shape.latent};
  const CudaTiling tiling = body.tiling(shape.heads, stored);
  const int blocks = tiling.rows / body.rows;  // of a work
  CudaPlan plan = plan_cuda(rows, tiling, seqs, std::max(1, n_sms / blocks));
  constexpr int64_t kAlign = 256;
  plan.workspace_bytes = (plan.workspace_bytes + kAlign - 1) / kAlign * kAlign;
  plan.workspace_bytes += plan.n_blocks * blocks * body.block_bytes;
  return plan;
}

}  // namespace ashlar
