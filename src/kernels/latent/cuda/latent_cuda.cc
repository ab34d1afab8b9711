#include "kernels/latent/cuda/latent_cuda.h"

namespace ashlar {

CudaPlan plan_latent_cuda(const CudaLatentBody& body, const LatentShape& shape, DType stored,
                          std::span<const AttnSeq> seqs, int n_sms) {
  CHECK(shape.latent == kLatentWidth && shape.rope == kLatentRope, "latent {} + {}: {} has {} + {}",
        shape.latent, shape.rope, body.name, kLatentWidth, kLatentRope);
  const AttnShape rows{.heads = shape.heads,
                       .kv_heads = 1,
                       .k_dim = shape.latent + shape.rope,
                       .v_dim = shape.latent};
  return plan_cuda(rows, body.tiling(stored), seqs, n_sms);
}

}  // namespace ashlar
