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

enum class DType : uint8_t { f32, bf16, f16, f8e4m3, f8e5m2, u8, i32, i64 };

constexpr int64_t size_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
    case DType::i32: return 4;
    case DType::bf16:
    case DType::f16: return 2;
    case DType::f8e4m3:
    case DType::f8e5m2:
    case DType::u8: return 1;
    case DType::i64: return 8;
  }
  return 0;
}

// f32, bf16 or f16.
constexpr bool is_float(DType dtype) {
  return dtype == DType::f32 || dtype == DType::bf16 || dtype == DType::f16;
}
constexpr bool is_f8(DType dtype) { return dtype == DType::f8e4m3 || dtype == DType::f8e5m2; }

// "float32", "bfloat16", "float16", "float8_e4m3", "float8_e5m2", "uint8", "int32", "int64".
const char* name(DType dtype);

// The first three of these names, as flags and configs spell them ("torch.bfloat16" too): what a
// model may compute in.
Result<DType> parse_dtype(std::string_view text);

// What a cache may hold: the same, and the 8-bit floats by name or as flags spell them: "fp8"
// (= "fp8_e4m3") and "fp8_e5m2".
Result<DType> parse_cache_dtype(std::string_view text);

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

// An OCP 8-bit float (OFP8): sign, exponent, mantissa. All conversions derive from these numbers.
struct F8Format {
  int mantissa_bits;
  int bias;
  uint32_t largest;        // code of the largest finite magnitude
  uint32_t first_special;  // and of the first that is infinite or NaN
  float half_above;        // halfway from the largest to what would be the next

  constexpr int shift() const { return 23 - mantissa_bits; }  // code to a float's bits
  constexpr uint32_t rebias() const { return static_cast<uint32_t>(127 - bias) << 23; }
  // Code 1, the smallest subnormal.
  constexpr float unit() const {
    return std::bit_cast<float>(static_cast<uint32_t>(128 - bias - mantissa_bits) << 23);
  }
  // Adding this to a number below the smallest normal leaves its code in the low bits, rounded to
  // nearest even by the addition.
  constexpr float aligner() const { return unit() * 0x1p23f; }
  constexpr float largest_value() const { return value(largest); }

  // What a code stands for, exactly.
  constexpr float value(uint32_t code) const {
    const uint32_t sign = (code & 0x80u) << 24, magnitude = code & 0x7Fu;
    const uint32_t moved = magnitude << shift();
    if (magnitude >= first_special) return std::bit_cast<float>(sign | 0x7F800000u | moved);
    if (magnitude >> mantissa_bits > 0) return std::bit_cast<float>(sign | (moved + rebias()));
    const float subnormal = static_cast<float>(magnitude) * unit();
    return sign != 0 ? -subnormal : subnormal;
  }
};

// Without infinities: only codes 0x7F and 0xFF are NaN.
struct F8E4M3 {
  static constexpr F8Format kFormat{
      .mantissa_bits = 3, .bias = 7, .largest = 0x7E, .first_special = 0x7F, .half_above = 464.0f};
  uint8_t bits;
};
// The upper byte of a binary16.
struct F8E5M2 {
  static constexpr F8Format kFormat{.mantissa_bits = 2,
                                    .bias = 15,
                                    .largest = 0x7B,
                                    .first_special = 0x7C,
                                    .half_above = 61440.0f};
  uint8_t bits;
};

constexpr const F8Format& f8_format(DType dtype) {
  return dtype == DType::f8e5m2 ? F8E5M2::kFormat : F8E4M3::kFormat;
}

constexpr float to_float(F8E4M3 value) { return F8E4M3::kFormat.value(value.bits); }
constexpr float to_float(F8E5M2 value) { return F8E5M2::kFormat.value(value.bits); }
// Round to nearest even; beyond the largest (448, 57344), infinity included, the largest; a NaN
// stays NaN.
F8E4M3 to_f8e4m3(float value);
F8E5M2 to_f8e5m2(float value);

}  // namespace ashlar
