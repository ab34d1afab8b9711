#pragma once

// One warpgroup's matrix products (sm_90a): 64 rows by kColumns columns by 16 deep, f32 sums in
// registers. PTX ISA, "Asynchronous warpgroup level matrix instructions".
//
// Lane l of warp w holds rows 16 w + l / 4 (and + 8) of the sums, columns 8 j + 2 (l % 4) (and +
// 1): d[4 j], d[4 j + 1] of the first row, d[4 j + 2], d[4 j + 3] of the second. Packed two and two
// they are, in this order, the registers of a left operand 16 columns deep for every four.
//
// Products run behind the program: wgmma_fence() once what the registers hold is settled, the
// products, wgmma_commit(), and wgmma_wait() before registers or shared memory are touched. held()
// on both sides keeps the compiler from moving ordinary uses across.

#include <type_traits>

#include "kernels/cuda/hopper.cuh"

namespace ashlar::cuda {

template <class T, int kN>
__device__ inline void held(T (&registers)[kN]) {
#pragma unroll
  for (int i = 0; i < kN; ++i) {
    if constexpr (std::is_same_v<T, float>) {
      asm volatile("" : "+f"(registers[i])::"memory");
    } else {
      asm volatile("" : "+r"(registers[i])::"memory");
    }
  }
}

// multiply_shared(d, a, b, add): both operands from shared memory, rows along the depth.
// multiply_registers(d, a, b, add): the left one (four registers) from registers, the right one's
// rows across the depth (transposed). d = a b, plus d when `add`.

// The lists that inline assembly wants spelled out.
#define ASHLAR_F4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define ASHLAR_F16(i) ASHLAR_F4(i), ASHLAR_F4(i + 4), ASHLAR_F4(i + 8), ASHLAR_F4(i + 12)
#define ASHLAR_F32(i) ASHLAR_F16(i), ASHLAR_F16(i + 16)
#define ASHLAR_F64(i) ASHLAR_F32(i), ASHLAR_F32(i + 32)
#define ASHLAR_F128(i) ASHLAR_F64(i), ASHLAR_F64(i + 64)
#define ASHLAR_D32                                                         \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define ASHLAR_D64                                                                   \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "           \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, " \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define ASHLAR_D128                                                                              \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                       \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "             \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "             \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "             \
  "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "             \
  "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "             \
  "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, " \
  "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"

// i0.. are the operands' numbers after the sums'.
#define ASHLAR_WGMMA(columns, sums, list, operands, i0, i1, i2, i3, i4, i5)                   \
  template <class Half>                                                                       \
  __device__ inline void multiply_shared(float(&d)[sums], uint64_t a, uint64_t b, bool add) { \
    if constexpr (std::is_same_v<Half, __half>) {                                             \
      ASHLAR_WGMMA_SHARED("f16", columns, list, operands, i0, i1, i2);                        \
    } else {                                                                                  \
      ASHLAR_WGMMA_SHARED("bf16", columns, list, operands, i0, i1, i2);                       \
    }                                                                                         \
  }                                                                                           \
  template <class Half>                                                                       \
  __device__ inline void multiply_registers(float(&d)[sums], const uint32_t* a, uint64_t b,   \
                                            bool add) {                                       \
    if constexpr (std::is_same_v<Half, __half>) {                                             \
      ASHLAR_WGMMA_REGISTERS("f16", columns, list, operands, i0, i1, i2, i3, i4, i5);         \
    } else {                                                                                  \
      ASHLAR_WGMMA_REGISTERS("bf16", columns, list, operands, i0, i1, i2, i3, i4, i5);        \
    }                                                                                         \
  }
#define ASHLAR_WGMMA_SHARED(type, columns, list, operands, i0, i1, i2)                    \
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, " i2                                     \
               ", 0;\nwgmma.mma_async.sync.aligned.m64n" columns "k16.f32." type "." type \
               " {" list "}, " i0 ", " i1 ", p, 1, 1, 0, 0;\n}"                           \
               : operands(0)                                                              \
               : "l"(a), "l"(b), "r"(static_cast<int>(add)))
#define ASHLAR_WGMMA_REGISTERS(type, columns, list, operands, i0, i1, i2, i3, i4, i5)     \
  asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, " i5                                     \
               ", 0;\nwgmma.mma_async.sync.aligned.m64n" columns "k16.f32." type "." type \
               " {" list "}, {" i0 ", " i1 ", " i2 ", " i3 "}, " i4 ", p, 1, 1, 1;\n}"    \
               : operands(0)                                                              \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(add)))

ASHLAR_WGMMA("64", 32, ASHLAR_D32, ASHLAR_F32, "%32", "%33", "%34", "%35", "%36", "%37")
ASHLAR_WGMMA("128", 64, ASHLAR_D64, ASHLAR_F64, "%64", "%65", "%66", "%67", "%68", "%69")
ASHLAR_WGMMA("256", 128, ASHLAR_D128, ASHLAR_F128, "%128", "%129", "%130", "%131", "%132", "%133")

// multiply_registers() of 64 columns with the right operand's rows along the depth.
#define ASHLAR_WGMMA_ALONG(type)                                                  \
  asm volatile(                                                                   \
      "{\n.reg .pred p;\nsetp.ne.b32 p, %37, 0;\n"                                \
      "wgmma.mma_async.sync.aligned.m64n64k16.f32." type "." type " {" ASHLAR_D32 \
      "}, "                                                                       \
      "{%32, %33, %34, %35}, %36, p, 1, 1, 0;\n}"                                 \
      : ASHLAR_F32(0)                                                             \
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(add)))
template <class Half>
__device__ inline void multiply_registers_along(float (&d)[32], const uint32_t* a, uint64_t b,
                                                bool add) {
  if constexpr (std::is_same_v<Half, __half>) {
    ASHLAR_WGMMA_ALONG("f16");
  } else {
    ASHLAR_WGMMA_ALONG("bf16");
  }
}

#undef ASHLAR_WGMMA_ALONG
#undef ASHLAR_F4
#undef ASHLAR_F16
#undef ASHLAR_F32
#undef ASHLAR_F64
#undef ASHLAR_F128
#undef ASHLAR_D32
#undef ASHLAR_D64
#undef ASHLAR_D128
#undef ASHLAR_WGMMA
#undef ASHLAR_WGMMA_SHARED
#undef ASHLAR_WGMMA_REGISTERS

}  // namespace ashlar::cuda
