#include "kernels/attention/cuda/bodies.h"

#include <string_view>

#include "kernels/attention/cuda/decode.h"
#include "kernels/attention/cuda/prefill.h"

namespace ashlar {
namespace {

CudaTiling mma_tiling(const AttnShape& shape, const PagedView&, DType, StepForm step) {
  return step == StepForm::decode ? mma_decode_tiling(shape) : mma_prefill_tiling(shape);
}

CudaTiling tiling_of_decode(const AttnShape& shape, const PagedView&, DType, StepForm) {
  return decode_tiling(shape);
}

CudaTiling prefill_tiling(const AttnShape& shape, const PagedView& kv, DType q, StepForm) {
  return wgmma_tiling(shape, kv, q);
}

Status plain_takes(const AttnShape&, const PagedView&, DType) { return {}; }

CudaTiling plain_tiling(const AttnShape&, const PagedView&, DType, StepForm) {
  return {.rows = 16, .kv_split = 0};
}

}  // namespace

CudaAttentionBody cuda_attention_body(const AttentionBackend& row) {
  CHECK(row.form == AttentionForm::heads && row.least.kind == Device::Kind::cuda, "{}", row.name);
  const std::string_view name = row.name;
  if (name.starts_with("cuda_wgmma")) return {wgmma_takes, prefill_tiling, attention_cuda_wgmma};
  if (name.starts_with("cuda_decode"))
    return {decode_takes, tiling_of_decode, attention_cuda_decode};
  if (name.starts_with("cuda_mma")) return {mma_takes, mma_tiling, attention_cuda_mma};
  CHECK(name == "cuda_plain", "{} has no body", name);
  return {plain_takes, plain_tiling, attention_cuda_plain};
}

}  // namespace ashlar
