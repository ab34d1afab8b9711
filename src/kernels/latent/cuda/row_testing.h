#pragma once

// A CUDA row of the table of backends as one thing that plans and runs, whichever form it has: what
// the tests that walk the table and the bench share. Test code only.

#include "kernels/attention/cuda/bodies.h"
#include "kernels/latent/cuda/bodies.h"

namespace ashlar {

inline AttnShape shape_of(const AttentionNeed& need) {
  return {.heads = need.heads,
          .kv_heads = need.kv_heads,
          .k_dim = need.k_dim,
          .v_dim = need.v_dim,
          .window = need.window,
          .causal = need.causal};
}

// Of latents, params.kv.v_dim is 0, and sinks and softcap are not looked at.
class CudaRow {
 public:
  CudaRow(const AttentionBackend& row, const AttentionNeed& need) : row_(&row), need_(need) {}

  const AttentionBackend& backend() const { return *row_; }
  std::string name() const { return fmt::format("{} {}", row_->name, ashlar::name(need_.step)); }

  Status takes(const PagedView& kv) const {
    if (row_->form == AttentionForm::latent) return {};
    return cuda_attention_body(*row_).takes(shape_of(need_), kv, need_.query);
  }
  CudaPlan plan(const PagedView& kv, std::span<const AttnSeq> seqs, int n_sms) const {
    const AttnShape shape = shape_of(need_);
    if (row_->form == AttentionForm::latent) {
      const LatentShape latent{
          .heads = shape.heads, .latent = shape.v_dim, .rope = shape.k_dim - shape.v_dim};
      return plan_latent_cuda(cuda_latent_body(*row_), latent, kv.dtype, seqs, n_sms);
    }
    const CudaAttentionBody body = cuda_attention_body(*row_);
    return plan_cuda(shape, body.tiling(shape, kv, need_.query, need_.step), seqs, n_sms);
  }
  void run(const CudaPlan& plan, const AttnParams& params, CUstream_st* stream) const {
    if (row_->form == AttentionForm::heads)
      return cuda_attention_body(*row_).run(plan, params, stream);
    cuda_latent_body(*row_).run(plan,
                                {.q = params.q,
                                 .out = params.out,
                                 .kv = params.kv,
                                 .scale = params.scale,
                                 .workspace = params.workspace},
                                stream);
  }

 private:
  const AttentionBackend* row_;
  AttentionNeed need_;
};

}  // namespace ashlar
