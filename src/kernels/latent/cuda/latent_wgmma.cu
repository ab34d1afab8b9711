#include "kernels/latent/cuda/latent_codes.cuh"
#include "kernels/latent/cuda/latent_wgmma.cuh"

#include "kernels/latent/cuda/launch.cuh"

namespace ashlar {
namespace {

using namespace cuda;

constexpr int64_t kBlockBytes = kWgmmaRows * kLatentWidth * int64_t{sizeof(float)};

template <class Query, DType kStored>
void launch(const CudaPlan& plan, const LatentParams& p, CUstream_st* stream) {
  constexpr bool kF8 = is_f8(kStored);
  const LatentArgs args = latent_args(plan, p, kWgmmaRows, kBlockBytes);
  const CUtensorMap map = page_map(p.kv, args.rows, kLatentQ, p.kv.page_tokens);
  void (*kernel)(LatentArgs, CUtensorMap) = nullptr;
  if constexpr (kF8) {
    kernel = latent_codes<Query, kStored>;
  } else {
    kernel = latent_wgmma<Query>;
  }
  constexpr int kBytes = kF8 ? sizeof(CodesShared) : sizeof(WgmmaShared);
  CHECK_CUDA(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes));
  kernel<<<static_cast<unsigned>(plan.n_blocks * args.blocks), kWgmmaThreads + 128, kBytes,
           stream>>>(args, map);
  CHECK_CUDA(cudaGetLastError());
  merge_latents(plan, p, stream);
}

void run(const CudaPlan& plan, const LatentParams& p, CUstream_st* stream) {
  if (plan.n_works == 0) return;
  const bool bf16 = p.q.dtype == DType::bf16;
  switch (p.kv.dtype) {
    case DType::f8e4m3:
      return bf16 ? launch<__nv_bfloat16, DType::f8e4m3>(plan, p, stream)
                  : launch<__half, DType::f8e4m3>(plan, p, stream);
    case DType::f8e5m2:
      return bf16 ? launch<__nv_bfloat16, DType::f8e5m2>(plan, p, stream)
                  : launch<__half, DType::f8e5m2>(plan, p, stream);
    default:
      return bf16 ? launch<__nv_bfloat16, DType::bf16>(plan, p, stream)
                  : launch<__half, DType::f16>(plan, p, stream);
  }
}

// A split's state costs as much as some 200 tokens, twice as much for a total that is put away: few
// and long ones, where heads are many enough to keep the device busy.
CudaTiling tiling(int32_t heads, DType) {
  if (heads <= kWgmmaRows) return {.rows = kWgmmaRows, .kv_split = 2048};
  return {.rows = 2 * kWgmmaRows, .kv_split = 4096};
}

}  // namespace

CudaLatentBody latent_cuda_wgmma() {
  return {.name = "latent_wgmma",
          .run = run,
          .rows = kWgmmaRows,
          .block_bytes = kBlockBytes,
          .tiling = tiling};
}

}  // namespace ashlar
