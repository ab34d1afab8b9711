#include "kernels/latent/cuda/latent_mma.cuh"

#include "kernels/latent/cuda/launch.cuh"

namespace ashlar {
namespace {

using namespace cuda;

template <class Query, DType kStored>
void launch(const CudaPlan& plan, const LatentParams& p, CUstream_st* stream) {
  const LatentArgs args = latent_args(plan, p, kMmaRows);
  using Type = MmaType<Query, kStored>;
  auto* kernel = latent_mma<Query, kStored>;
  cudaFuncAttributes attributes{};
  CHECK_CUDA(cudaFuncGetAttributes(&attributes, kernel));
  const bool hopper = attributes.ptxVersion >= 90;  // of the code this device runs
  // Nobody else reads these rows: 256 bytes at once were 3 to 6 % slower, and 8 % faster for wgmma.
  const CUtensorMap map =
      hopper ? page_map(p.kv, args.rows, kLatentQ, std::min(p.kv.page_tokens, Type::Tile::kTokens),
                        Type::Tile::kWidth, CU_TENSOR_MAP_L2_PROMOTION_L2_128B)
             : CUtensorMap{};
  const int bytes = mma_shared_bytes<Type>(hopper);
  CHECK_CUDA(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
  kernel<<<static_cast<unsigned>(plan.n_blocks), kMmaThreads, static_cast<size_t>(bytes), stream>>>(
      args, map);
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

// Short splits, so that one sequence occupies many multiprocessors; long groups, so that many
// sequences leave few states.
CudaTiling tiling(int32_t, DType stored) {
  const int32_t split = is_f8(stored) ? 512 : 256;
  return {.rows = kMmaRows, .kv_split = split, .group = 2048 / split};
}

}  // namespace

CudaLatentBody latent_cuda_mma() {
  return {.name = "latent_mma", .run = run, .rows = kMmaRows, .tiling = tiling};
}

}  // namespace ashlar
