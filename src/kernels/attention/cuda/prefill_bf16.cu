// Prefill of bf16 from bf16 pages.

#include "kernels/attention/cuda/prefill_launch.cuh"

namespace ashlar::cuda {

template <int kKWidth, int kVWidth, int kKv, int kStages, int kQSlots>
using Policy = PrefillPolicy<__nv_bfloat16, DType::bf16, kKWidth, kVWidth, kKv, kStages, kQSlots>;

std::span<const PrefillKernel> prefill_bf16() {
  static constexpr PrefillKernel kKernels[] = {
      prefill_kernel<Policy<64, 64, 128, 3, 1>>(false),
      prefill_kernel<Policy<128, 128, 128, 2, 1>>(false),
      prefill_kernel<Policy<192, 128, 128, 2, 1>>(false),
      prefill_kernel<Policy<192, 128, 64, 3, 2>>(true),
      prefill_kernel<Policy<256, 256, 64, 2, 1>>(false),
  };
  return kKernels;
}

}  // namespace ashlar::cuda
