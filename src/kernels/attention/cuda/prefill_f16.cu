// Prefill of f16 from f16 pages.

#include "kernels/attention/cuda/prefill_launch.cuh"

namespace ashlar::cuda {

std::span<const PrefillKernel> prefill_f16() { return prefill_halves<__half, DType::f16>(); }

}  // namespace ashlar::cuda
