// Prefill of bf16 from bf16 pages.

#include "kernels/attention/cuda/prefill_launch.cuh"

namespace ashlar::cuda {

std::span<const PrefillKernel> prefill_bf16() {
  return prefill_halves<__nv_bfloat16, DType::bf16>();
}

}  // namespace ashlar::cuda
