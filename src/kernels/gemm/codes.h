#pragma once

// What the codes of quantised weights stand for: OCP Microscaling (MX) E2M1 and E8M0 here, OCP
// 8-bit floating point (OFP8) E4M3 in tensor/dtype.h. Scalar and exact; bodies are checked against
// these.

#include <bit>
#include <cstdint>
#include <limits>

#include "tensor/dtype.h"

namespace ashlar {

// Sign, 2 bits of exponent, 1 of mantissa.
constexpr float from_e2m1(uint8_t code) {
  constexpr float kValues[] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
  return code & 8 ? -kValues[code & 7] : kValues[code & 7];
}

// 2^(code - 127); 255 is NaN.
constexpr float from_e8m0(uint8_t code) {
  if (code == 255) return std::numeric_limits<float>::quiet_NaN();
  return std::bit_cast<float>(code == 0 ? 0x00400000u : static_cast<uint32_t>(code) << 23);
}

}  // namespace ashlar
