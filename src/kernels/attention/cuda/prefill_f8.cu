// Prefill of bf16 and f16 from FP8 pages; products in f16.

#include "kernels/attention/cuda/prefill_launch.cuh"

namespace ashlar::cuda {

template <class Half, DType kStored, int kKWidth, int kVWidth, int kKv, int kStages, int kQSlots>
constexpr PrefillKernel kernel(bool window) {
  return prefill_kernel<PrefillPolicy<Half, kStored, kKWidth, kVWidth, kKv, kStages, kQSlots>>(
      window);
}

std::span<const PrefillKernel> prefill_f8() {
  static constexpr PrefillKernel kKernels[] = {
      kernel<__nv_bfloat16, DType::f8e4m3, 128, 128, 128, 2, 1>(false),
      kernel<__nv_bfloat16, DType::f8e4m3, 192, 128, 128, 2, 1>(false),
      kernel<__nv_bfloat16, DType::f8e4m3, 192, 128, 64, 3, 2>(true),
      kernel<__nv_bfloat16, DType::f8e5m2, 192, 128, 128, 2, 1>(false),
      kernel<__half, DType::f8e4m3, 192, 128, 128, 2, 1>(false),
  };
  return kKernels;
}

}  // namespace ashlar::cuda
