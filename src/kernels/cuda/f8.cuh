#pragma once

// FP8 pairs as f16 pairs. Every FP8 number is an f16 number, so f16 is what FP8 pages are
// multiplied in: one instruction a pair where the device has it (sm_89 and later), and 11 bits for
// the probabilities instead of bf16's 8.
//
// split_f8 takes four codes as they lie in memory and gives two registers of two f16:
//   even = codes 0 and 2, odd = codes 1 and 3.
// Both operand layouts want exactly this. Rows read along their width (keys): a fragment's columns
// 4j, 4j+2 | 4j+1, 4j+3, which a query laid out in the same order undoes. Rows read across (values,
// by load_matrix_transposed, whose 16-bit elements are then two neighbouring codes of one token):
// two tokens of one column each.

#include <cuda_fp16.h>

#include <cstdint>

#include "tensor/dtype.h"

namespace ashlar::cuda {

template <DType kType>
__device__ inline void split_f8(uint32_t codes, uint32_t& even, uint32_t& odd) {
  if constexpr (kType == DType::f8e5m2) {  // the upper byte of an f16
    even = (codes << 8) & 0xff00ff00u;
    odd = codes & 0xff00ff00u;
  } else {
#if __CUDA_ARCH__ >= 890
    const uint32_t swapped = __byte_perm(codes, 0, 0x3120);  // codes 0, 2 | 1, 3
    asm("{.reg .b16 low, high;\n mov.b32 {low, high}, %2;\n"
        "cvt.rn.f16x2.e4m3x2 %0, low;\n cvt.rn.f16x2.e4m3x2 %1, high;}"
        : "=r"(even), "=r"(odd)
        : "r"(swapped));
#else
    // 4 exponent bits where f16 has 5: the bits of value * 2^-8, so multiply by 2^8.
    const __half2 up = __float2half2_rn(256.0f);
    uint32_t e = ((codes << 7) & 0x3f803f80u) | ((codes << 8) & 0x80008000u);
    uint32_t o = ((codes >> 1) & 0x3f803f80u) | (codes & 0x80008000u);
    *reinterpret_cast<__half2*>(&e) = __hmul2(*reinterpret_cast<__half2*>(&e), up);
    *reinterpret_cast<__half2*>(&o) = __hmul2(*reinterpret_cast<__half2*>(&o), up);
    even = e, odd = o;
#endif
  }
}

// The same in order: low = codes 0 and 1, high = codes 2 and 3. sm_89 and later.
template <DType kType>
__device__ inline void widen_f8(uint32_t codes, uint32_t& low, uint32_t& high) {
  if constexpr (kType == DType::f8e5m2) {
    low = __byte_perm(codes, 0, 0x1404);
    high = __byte_perm(codes, 0, 0x3424);
  } else {
    asm("{.reg .b16 first, second;\n mov.b32 {first, second}, %2;\n"
        "cvt.rn.f16x2.e4m3x2 %0, first;\n cvt.rn.f16x2.e4m3x2 %1, second;}"
        : "=r"(low), "=r"(high)
        : "r"(codes));
  }
}

}  // namespace ashlar::cuda
