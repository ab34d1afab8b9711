#include "kernels/latent/cuda/bodies.h"

#include <string_view>

namespace ashlar {
namespace {

constexpr int32_t kPlainRows = 16;

CudaTiling plain_tiling(int32_t, DType) { return {.rows = kPlainRows, .kv_split = 0}; }

void plain_run(const CudaPlan& plan, const LatentParams& params, CUstream_st* stream) {
  attention_cuda_plain(plan,
                       {.q = params.q,
                        .out = params.out,
                        .kv = params.kv,
                        .scale = params.scale,
                        .workspace = params.workspace},
                       stream);
}

}  // namespace

CudaLatentBody latent_cuda_plain() {
  return {.name = "plain", .run = plain_run, .rows = kPlainRows, .tiling = plain_tiling};
}

CudaLatentBody cuda_latent_body(const AttentionBackend& row) {
  CHECK(row.form == AttentionForm::latent && row.least.kind == Device::Kind::cuda, "{}", row.name);
  const std::string_view name = row.name;
  if (name.starts_with("cuda_wgmma")) return latent_cuda_wgmma();
  if (name.starts_with("cuda_mma")) return latent_cuda_mma();
  CHECK(name == "cuda_plain", "{} has no body", name);
  return latent_cuda_plain();
}

}  // namespace ashlar
