// Prefill of bf16 and f16 from FP8 pages; products in f16.

#include "kernels/attention/cuda/prefill_launch.cuh"

namespace ashlar::cuda {

template <class Half, DType kStored, int kKWidth, int kVWidth, PrefillTile kTile>
constexpr PrefillKernel kernel() {
  return prefill_kernel<PrefillPolicy<Half, kStored, kKWidth, kVWidth, kTile>>();
}

std::span<const PrefillKernel> prefill_f8() {
  static constexpr PrefillKernel kKernels[] = {
      kernel<__nv_bfloat16, DType::f8e4m3, 128, 128, kF8Tile>(),
      kernel<__nv_bfloat16, DType::f8e4m3, 192, 128, kF8Tile>(),
      kernel<__nv_bfloat16, DType::f8e4m3, 192, 128, kF8WindowTile>(),
      kernel<__nv_bfloat16, DType::f8e5m2, 192, 128, kF8Tile>(),
      kernel<__half, DType::f8e4m3, 192, 128, kF8Tile>(),
  };
  return kKernels;
}

}  // namespace ashlar::cuda
