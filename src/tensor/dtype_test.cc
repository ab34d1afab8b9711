#include "tensor/dtype.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace ashlar {
namespace {

TEST(DType, EveryHalfRoundTripsThroughFloat) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const F16 half{static_cast<uint16_t>(bits)};
    const Bf16 brain{static_cast<uint16_t>(bits)};
    if (std::isnan(to_float(half))) {
      EXPECT_TRUE(std::isnan(to_float(to_f16(to_float(half)))));
    } else {
      EXPECT_EQ(to_f16(to_float(half)).bits, bits);
    }
    if (!std::isnan(to_float(brain))) {
      EXPECT_EQ(to_bf16(to_float(brain)).bits, bits);
    }
  }
}

// The reference rounding is the hardware's: a half between two neighbours goes to the nearer, ties
// to even.
TEST(DType, ConversionRoundsToNearestEven) {
  EXPECT_EQ(to_f16(1.0f + 0x1p-11f).bits, 0x3C00);
  EXPECT_EQ(to_f16(1.0f + 0x1.8p-10f).bits, 0x3C02);
  EXPECT_EQ(to_f16(65519.0f).bits, 0x7BFF);
  EXPECT_EQ(to_f16(65520.0f).bits, 0x7C00);
  EXPECT_EQ(to_f16(0x1p-25f).bits, 0);
  EXPECT_EQ(to_f16(0x1.8p-25f).bits, 1);
  EXPECT_EQ(to_f16(-0x1p-24f).bits, 0x8001);
  EXPECT_EQ(to_bf16(1.0f + 0x1p-8f).bits, 0x3F80);
  EXPECT_EQ(to_bf16(1.0f + 0x1.8p-7f).bits, 0x3F82);
}

// Every code, its value spelled out, and what lies between it and the next.
template <class F8>
void expect_format(F8 (*narrow)(float), int mantissa_bits, int bias, uint32_t n_finite) {
  const auto value_of = [&](uint32_t code) {
    const int exponent = static_cast<int>(code >> mantissa_bits);
    const int mantissa = static_cast<int>(code) & ((1 << mantissa_bits) - 1);
    const int hidden = exponent > 0 ? 1 << mantissa_bits : 0;
    return std::ldexp(static_cast<float>(hidden + mantissa),
                      std::max(exponent, 1) - bias - mantissa_bits);
  };
  for (uint32_t code = 0; code < n_finite; ++code) {
    const float value = value_of(code);
    EXPECT_EQ(to_float(F8{static_cast<uint8_t>(code)}), value);
    EXPECT_EQ(to_float(F8{static_cast<uint8_t>(code | 0x80)}), -value);
    EXPECT_TRUE(std::signbit(to_float(F8{static_cast<uint8_t>(code | 0x80)})));
    EXPECT_EQ(narrow(value).bits, code);
    EXPECT_EQ(narrow(-value).bits, code | 0x80);
    if (code + 1 == n_finite) continue;
    const float middle = (value + value_of(code + 1)) / 2;
    EXPECT_EQ(narrow(middle).bits, code + (code & 1)) << "the tie above code " << code;
    EXPECT_EQ(narrow(std::nextafter(middle, 0.0f)).bits, code);
    EXPECT_EQ(narrow(std::nextafter(middle, 1e9f)).bits, code + 1);
  }
  const uint32_t last = n_finite - 1;
  const float largest = value_of(last);
  EXPECT_EQ(F8::kFormat.largest_value(), largest);
  EXPECT_EQ(F8::kFormat.half_above, largest + (largest - value_of(last - 1)) / 2);
  const float infinity = std::numeric_limits<float>::infinity();
  for (const float beyond : {std::nextafter(largest, infinity), 1e30f, infinity}) {
    EXPECT_EQ(narrow(beyond).bits, last);
    EXPECT_EQ(narrow(-beyond).bits, last | 0x80);
  }
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(std::isnan(to_float(narrow(nan))));
  EXPECT_TRUE(std::isnan(to_float(narrow(-nan))));
  EXPECT_EQ(narrow(1e-30f).bits, 0);
  EXPECT_EQ(narrow(-1e-30f).bits, 0x80);
}

TEST(DType, EightBitFloats) {
  expect_format<F8E4M3>(to_f8e4m3, 3, 7, 0x7F);
  expect_format<F8E5M2>(to_f8e5m2, 2, 15, 0x7C);
  EXPECT_EQ(F8E4M3::kFormat.largest_value(), 448.0f);
  EXPECT_EQ(F8E5M2::kFormat.largest_value(), 57344.0f);
  for (const uint8_t sign : {0x00, 0x80}) {
    EXPECT_TRUE(std::isnan(to_float(F8E4M3{static_cast<uint8_t>(sign | 0x7F)})));
    EXPECT_TRUE(std::isinf(to_float(F8E5M2{static_cast<uint8_t>(sign | 0x7C)})));
    for (const uint8_t code : {0x7D, 0x7E, 0x7F}) {
      EXPECT_TRUE(std::isnan(to_float(F8E5M2{static_cast<uint8_t>(sign | code)})));
    }
  }
}

TEST(DType, CacheDTypesByFlag) {
  EXPECT_EQ(*parse_cache_dtype("fp8"), DType::f8e4m3);
  EXPECT_EQ(*parse_cache_dtype("fp8_e4m3"), DType::f8e4m3);
  EXPECT_EQ(*parse_cache_dtype("float8_e4m3"), DType::f8e4m3);
  EXPECT_EQ(*parse_cache_dtype("fp8_e5m2"), DType::f8e5m2);
  EXPECT_EQ(*parse_cache_dtype("float8_e5m2"), DType::f8e5m2);
  EXPECT_EQ(*parse_cache_dtype("torch.bfloat16"), DType::bf16);
  EXPECT_FALSE(parse_cache_dtype("fp4"));
  EXPECT_FALSE(parse_dtype("fp8"));  // no model computes in it
  EXPECT_EQ(size_of(DType::f8e5m2), 1);
}

}  // namespace
}  // namespace ashlar
