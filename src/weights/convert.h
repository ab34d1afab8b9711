#pragma once

// Element conversion between the float types a checkpoint stores and the one the model computes in.

#include <cstddef>
#include <cstdint>

#include <type_traits>

#include "tensor/dtype.h"

namespace ashlar {

// A float as T, rounded to nearest even.
template <class T>
T narrow(float value) {
  if constexpr (std::is_same_v<T, Bf16>) return to_bf16(value);
  if constexpr (std::is_same_v<T, F16>) return to_f16(value);
  if constexpr (std::is_same_v<T, float>) return value;
}

// Converts n elements of `from` (any alignment) into `to` (aligned), rounding to nearest even;
// equal types are copied. Answers the index of the first finite element that `to_type` cannot hold
// (it would round to infinity), or -1. REQUIRES is_float of both types.
int64_t convert_elements(const std::byte* from, DType from_type, std::byte* to, DType to_type,
                         int64_t n);

// Index of the first NaN or infinity, or -1.
int64_t find_not_finite(const float* values, int64_t n);

// Element i of bytes of any alignment. REQUIRES is_float(type).
float element(const std::byte* bytes, DType type, int64_t i);

}  // namespace ashlar
