#pragma once

// Element types, their sizes and names, and the scalar conversions everything else is checked
// against.

#include <bit>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string_view>

#include "base/result.h"

namespace ashlar {

enum class DType : uint8_t { f32, bf16, f16, f8e4m3, u8, i32, i64 };

constexpr int64_t size_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
    case DType::i32: return 4;
    case DType::bf16:
    case DType::f16: return 2;
    case DType::f8e4m3:
    case DType::u8: return 1;
    case DType::i64: return 8;
  }
  return 0;
}

// f32, bf16 or f16.
constexpr bool is_float(DType dtype) {
  return dtype == DType::f32 || dtype == DType::bf16 || dtype == DType::f16;
}

// "float32", "bfloat16", "float16", "float8_e4m3", "uint8", "int32", "int64".
const char* name(DType dtype);

// The same names, as flags and configs spell them ("torch.bfloat16" too).
Result<DType> parse_dtype(std::string_view text);

// bfloat16 and binary16 as bits. They exist so that pointers are typed; arithmetic is done in
// float.
struct Bf16 {
  uint16_t bits;
};
struct F16 {
  uint16_t bits;
};

inline float to_float(float value) { return value; }

inline float to_float(Bf16 value) {
  return std::bit_cast<float>(static_cast<uint32_t>(value.bits) << 16);
}

// Round to nearest even; a NaN stays a (quiet) NaN.
inline Bf16 to_bf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return Bf16{static_cast<uint16_t>((bits >> 16) | 0x40)};
  return Bf16{static_cast<uint16_t>((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16)};
}

float to_float(F16 value);
F16 to_f16(float value);  // round to nearest even, overflow to infinity

// OCP 8-bit floating point (OFP8) E4M3: sign, 4 bits of exponent (bias 7), 3 of mantissa; no
// infinity, all ones is NaN.
constexpr float from_e4m3(uint8_t code) {
  const int exponent = code >> 3 & 15, mantissa = code & 7;
  float value = 0;
  if ((code & 0x7F) == 0x7F) {
    value = std::numeric_limits<float>::quiet_NaN();
  } else if (exponent == 0) {
    value = static_cast<float>(mantissa) * 0x1p-9f;
  } else {
    value = std::bit_cast<float>(static_cast<uint32_t>((exponent + 120) << 23 | mantissa << 20));
  }
  return code & 0x80 ? -value : value;
}

}  // namespace ashlar
