#pragma once

// What the files of bf16 dot products share: the order in which the lanes of a sum are added.

#include <immintrin.h>

#include <cstdint>

#define TARGET_BF16 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")))
#define TARGET_BF16_INLINE TARGET_BF16 inline __attribute__((always_inline))

namespace ashlar {

constexpr int64_t kStreamAhead = 4096;  // bytes from a weight's use to the prefetch

// The sums of the lanes of four accumulators. Every output is reduced by this tree.
TARGET_BF16_INLINE __m128 sum_lanes4(__m512 a, __m512 b, __m512 c, __m512 d) {
  const __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
  const __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
  const __m512d ab2 = _mm512_castps_pd(ab), cd2 = _mm512_castps_pd(cd);
  const __m512 abcd = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(ab2, cd2)),
                                    _mm512_castpd_ps(_mm512_unpackhi_pd(ab2, cd2)));
  const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(abcd), _mm512_extractf32x8_ps(abcd, 1));
  return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

// The sum of the lanes of one accumulator, by the tree of sum_lanes4.
TARGET_BF16_INLINE float sum_lanes(__m512 a) {
  const __m512 pairs = _mm512_add_ps(a, _mm512_permute_ps(a, 0x0E));     // 0 + 2, 1 + 3
  const __m512 fours = _mm512_add_ps(pairs, _mm512_movehdup_ps(pairs));  // of each 128 bits
  const __m256 half =
      _mm256_add_ps(_mm512_castps512_ps256(fours), _mm512_extractf32x8_ps(fours, 1));
  return _mm_cvtss_f32(_mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1)));
}

}  // namespace ashlar
