#pragma once

// What the bodies for machines that multiply pairs of bf16 share.
//
// Instruction sets are function attributes, and nothing of the standard library is called from such
// functions: an inline function compiled here would be linked into code that runs everywhere.

#include <immintrin.h>

#include "kernels/attention/tile.h"

// Sums live in registers only if the loops that index them are unrolled early.
#define ASHLAR_UNROLL _Pragma("GCC unroll 16")

#define ASHLAR_TARGET \
  __attribute__((target("avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512vbmi,avx512bf16,fma")))
#define ASHLAR_INLINE ASHLAR_TARGET __attribute__((always_inline)) inline

namespace ashlar {
namespace {

ASHLAR_INLINE __m512 dot(__m512 sum, __m512i a, __m512i b) {
  return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
}

ASHLAR_INLINE __m128i round8(const float* from, __mmask8 mask) {
  return reinterpret_cast<__m128i>(_mm256_cvtneps_pbh(_mm256_maskz_loadu_ps(mask, from)));
}

// Four tokens' sums to one vector, added up within 128 bits, whose lanes become tokens.
ASHLAR_INLINE __m512 sum_partials(__m512 t0, __m512 t1, __m512 t2, __m512 t3) {
  const __m512 s01 = _mm512_add_ps(_mm512_unpacklo_ps(t0, t1), _mm512_unpackhi_ps(t0, t1));
  const __m512 s23 = _mm512_add_ps(_mm512_unpacklo_ps(t2, t3), _mm512_unpackhi_ps(t2, t3));
  const __m512d a = _mm512_castps_pd(s01), b = _mm512_castps_pd(s23);
  return _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)),
                       _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)));
}

// p: [quads][kTileGroups][4 rows][4 tokens] bf16, rounded from the probabilities.
ASHLAR_INLINE void round_probabilities(const BlockWork& w, int64_t quad) {
  for (int64_t g = w.tile->group_begin; g < w.tile->group_end; ++g) {
    const int64_t cell = quad * kTileGroups + g;
    const __m512 p = _mm512_load_ps(w.scores + cell * kCell);
    _mm256_store_si256(reinterpret_cast<__m256i*>(w.p + cell * kCell * 2),
                       reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(p)));
  }
}

}  // namespace
}  // namespace ashlar
