// Prefill of bf16 from FP8 pages; products in f16.

#include "kernels/attention/cuda/prefill_launch.cuh"

namespace ashlar::cuda {

template <DType kStored, int kKWidth, int kVWidth, PrefillTile kTile>
constexpr PrefillKernel f8_kernel() {
  return prefill_kernel<__nv_bfloat16, kStored, kKWidth, kVWidth, kTile>();
}

std::span<const PrefillKernel> prefill_f8() {
  constexpr DType kE4m3 = DType::f8e4m3, kE5m2 = DType::f8e5m2;
  static constexpr PrefillKernel kKernels[] = {
      f8_kernel<kE4m3, 64, 64, kF8NarrowTile>(),
      f8_kernel<kE4m3, 64, 64, with_token_scales(kF8NarrowTile)>(),
      f8_kernel<kE4m3, 128, 128, kF8Tile>(),
      f8_kernel<kE4m3, 128, 128, kF8WindowTile>(),
      f8_kernel<kE4m3, 128, 128, with_token_scales(kF8Tile)>(),
      f8_kernel<kE4m3, 128, 128, with_token_scales(kF8WindowTile)>(),
      f8_kernel<kE4m3, 192, 128, kF8Tile>(),
      f8_kernel<kE4m3, 192, 128, kF8WindowTile>(),
      f8_kernel<kE4m3, 192, 128, with_token_scales(fewer_loads(kF8Tile))>(),
      f8_kernel<kE4m3, 192, 128, with_token_scales(kF8WindowTile)>(),
      f8_kernel<kE4m3, 256, 256, kF8WideTile>(),
      f8_kernel<kE4m3, 256, 256, with_token_scales(kF8WideTile)>(),
      f8_kernel<kE5m2, 64, 64, kF8NarrowTile>(),
      f8_kernel<kE5m2, 128, 128, kF8Tile>(),
      f8_kernel<kE5m2, 192, 128, kF8Tile>(),
      f8_kernel<kE5m2, 256, 256, kF8WideTile>(),
  };
  return kKernels;
}

}  // namespace ashlar::cuda
