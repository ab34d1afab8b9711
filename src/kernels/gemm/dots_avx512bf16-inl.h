#pragma once

// What the files of bf16 dot products share: the order in which the lanes of a sum are added.

#include <immintrin.h>

#include <cstdint>

#define TARGET_BF16 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")))
#define TARGET_BF16_INLINE TARGET_BF16 inline __attribute__((always_inline))

namespace ashlar {

constexpr int64_t kStreamAhead = 4096;  // bytes from a weight's use to the prefetch

// The tree by which the lanes of a sum are added: 0 + 1 + 2 + 3 of each 128 bits, then the four of
// those. Each half of it comes for one accumulator and, transposed, for four.

// Lane 4 i + n: the sum of the lanes of 128 bits i of accumulator n.
TARGET_BF16_INLINE __m512 fold4(__m512 a, __m512 b, __m512 c, __m512 d) {
  const __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
  const __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
  const __m512d ab2 = _mm512_castps_pd(ab), cd2 = _mm512_castps_pd(cd);
  return _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(ab2, cd2)),
                       _mm512_castpd_ps(_mm512_unpackhi_pd(ab2, cd2)));
}
// Lane 4 i: the sum of the lanes of 128 bits i; the others hold other things.
TARGET_BF16_INLINE __m512 fold(__m512 a) {
  const __m512 pairs = _mm512_add_ps(a, _mm512_permute_ps(a, 0x0E));  // 0 + 2, 1 + 3
  return _mm512_add_ps(pairs, _mm512_movehdup_ps(pairs));
}
// The sums of the lanes n, 4 + n, 8 + n, 12 + n.
TARGET_BF16_INLINE __m128 sum_blocks(__m512 folded) {
  const __m256 half =
      _mm256_add_ps(_mm512_castps512_ps256(folded), _mm512_extractf32x8_ps(folded, 1));
  return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

TARGET_BF16_INLINE __m128 sum_lanes4(__m512 a, __m512 b, __m512 c, __m512 d) {
  return sum_blocks(fold4(a, b, c, d));
}
TARGET_BF16_INLINE float sum_lanes(__m512 a) { return _mm_cvtss_f32(sum_blocks(fold(a))); }

}  // namespace ashlar
