#pragma once

// exp of a float by range reduction: x = n ln2 + r, |r| <= ln2 / 2, exp(x) = 2^n (1 + r + r^2
// q(r)). This is the plain body, written without branches so that compilers vectorise loops over
// it, and the same bits on every machine; exp-inl.h is the per-target one. Both are within 2 ulp.

#include <bit>
#include <cstdint>

namespace ashlar {

constexpr float kLog2E = 1.44269504f;
// ln2 in two parts; the high one has so few bits that its product with n is exact.
constexpr float kLn2High = 0x1.62e4p-1f;
constexpr float kLn2Low = 0x1.7f7d1cp-20f;
// q(r), fitted at the Chebyshev nodes of |r| <= ln2 / 2: error of the whole 1.1e-8.
constexpr float kExpQ[] = {0x1p-1f, 0x1.5554dcp-3f, 0x1.55551ap-5f, 0x1.120ba4p-7f,
                           0x1.6d113ep-10f};

// value where `keep`, else 0. A mask, because a branch keeps a loop from being vectorised.
inline float keep_if(bool keep, float value) {
  const uint32_t mask = 0u - static_cast<uint32_t>(keep);
  return std::bit_cast<float>(std::bit_cast<uint32_t>(value) & mask);
}

// exp(x) for x <= 0, 0 below -87 (the smallest normal float is exp(-87.3)). NaN gives 0.
inline float exp_not_positive(float x) {
  // Adding 1.5 * 2^23 rounds to an integer and leaves that integer in the low bits.
  constexpr float kRound = 12582912.0f;
  const float shifted = x * kLog2E + kRound;
  const float n = shifted - kRound;
  const float r = (x - n * kLn2High) - n * kLn2Low;
  const float q = kExpQ[0] + r * (kExpQ[1] + r * (kExpQ[2] + r * (kExpQ[3] + r * kExpQ[4])));
  const uint32_t mantissa = std::bit_cast<uint32_t>(1.0f + (r + r * r * q));
  const uint32_t exponent = std::bit_cast<uint32_t>(shifted) << 23;
  return keep_if(x >= -87.0f, std::bit_cast<float>(mantissa + exponent));
}

}  // namespace ashlar
