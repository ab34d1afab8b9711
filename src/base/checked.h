#pragma once

// Size arithmetic on numbers that come from outside (file headers, configs, flags). Every such
// product or sum goes through these two; an overflow is an Error where it happens, never a small
// number later.

#include <cstdint>
#include <initializer_list>

#include "base/result.h"

namespace ashlar {

inline Result<uint64_t> checked_mul(std::initializer_list<uint64_t> factors) {
  uint64_t product = 1;
  for (const uint64_t factor : factors) {
    if (__builtin_mul_overflow(product, factor, &product)) {
      return invalid("a size overflows 64 bits (factor {})", factor);
    }
  }
  return product;
}

inline Result<uint64_t> checked_add(std::initializer_list<uint64_t> terms) {
  uint64_t sum = 0;
  for (const uint64_t term : terms) {
    if (__builtin_add_overflow(sum, term, &sum))
      return invalid("a size overflows 64 bits (term {})", term);
  }
  return sum;
}

// Quotient rounded up, and value rounded up to a multiple. REQUIRES unit > 0 and no overflow (sizes
// of ours, already checked).
constexpr int64_t ceil_div(int64_t value, int64_t unit) { return (value + unit - 1) / unit; }
constexpr int64_t round_up(int64_t value, int64_t unit) { return ceil_div(value, unit) * unit; }

}  // namespace ashlar
