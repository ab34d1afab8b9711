// Prefill of f16 from f16 pages.

#include "kernels/attention/cuda/prefill_launch.cuh"

namespace ashlar::cuda {

template <int kKWidth, int kVWidth, PrefillTile kTile>
constexpr PrefillKernel kernel() {
  return prefill_kernel<PrefillPolicy<__half, DType::f16, kKWidth, kVWidth, kTile>>();
}

std::span<const PrefillKernel> prefill_f16() {
  static constexpr PrefillKernel kKernels[] = {
      kernel<64, 64, kLongTile>(),     kernel<128, 128, kLongTile>(),
      kernel<192, 128, kLongTile>(),   kernel<128, 128, kWindowTile>(),
      kernel<192, 128, kWindowTile>(), kernel<256, 256, kWideTile>(),
  };
  return kKernels;
}

}  // namespace ashlar::cuda
