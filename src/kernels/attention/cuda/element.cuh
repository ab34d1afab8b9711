#pragma once

// One element of any type, for code that is not in a hurry.

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include "tensor/dtype.h"

namespace ashlar::cuda {

constexpr __host__ __device__ int bytes_of(DType dtype) {
  return dtype == DType::f32 ? 4 : dtype == DType::bf16 || dtype == DType::f16 ? 2 : 1;
}

__device__ inline float to_f32(float x) { return x; }
__device__ inline float to_f32(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ inline float to_f32(__half x) { return __half2float(x); }
__device__ inline float to_f32(__nv_fp8_e4m3 x) { return static_cast<float>(x); }
__device__ inline float to_f32(__nv_fp8_e5m2 x) { return static_cast<float>(x); }

// f32, bf16 or f16, chosen while running.
__device__ inline float load(const void* from, DType dtype, int64_t i) {
  if (dtype == DType::f32) return static_cast<const float*>(from)[i];
  if (dtype == DType::f16) return to_f32(static_cast<const __half*>(from)[i]);
  return to_f32(static_cast<const __nv_bfloat16*>(from)[i]);
}
__device__ inline void store(void* to, DType dtype, int64_t i, float value) {
  if (dtype == DType::f32) static_cast<float*>(to)[i] = value;
  if (dtype == DType::f16) static_cast<__half*>(to)[i] = __float2half_rn(value);
  if (dtype == DType::bf16) static_cast<__nv_bfloat16*>(to)[i] = __float2bfloat16_rn(value);
}

}  // namespace ashlar::cuda
