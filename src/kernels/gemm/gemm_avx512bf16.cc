// The tiles of a machine with VDPBF16PS: a step multiplies 32 pairs of bf16 and adds them in pairs
// to 16 float lanes. Functions here carry the target attribute themselves, so the file is compiled
// like any other, and call nothing but intrinsics.

#include <immintrin.h>

#include "kernels/gemm/gemm_body.h"

#define TARGET_BF16 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")))

namespace ashlar {
namespace {

// The sums of the lanes of four accumulators. Every output is reduced by this tree.
TARGET_BF16 inline __m128 sum_lanes4(__m512 a, __m512 b, __m512 c, __m512 d) {
  const __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
  const __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
  const __m512d ab2 = _mm512_castps_pd(ab), cd2 = _mm512_castps_pd(cd);
  const __m512 abcd = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(ab2, cd2)),
                                    _mm512_castpd_ps(_mm512_unpackhi_pd(ab2, cd2)));
  const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(abcd), _mm512_extractf32x8_ps(abcd, 1));
  return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

// acc += the products of 32 elements of every weight row with every x row.
template <int kRows>
TARGET_BF16 inline __attribute__((always_inline)) void step(const __m512i (&w)[kTileColumns],
                                                            const GemmTile& t, int64_t offset_bytes,
                                                            __m512 (&acc)[kRows][kTileColumns]) {
#pragma GCC unroll 8
  for (int m = 0; m < kRows; ++m) {
    const __m512i x = _mm512_load_si512(t.x + m * t.x_stride + offset_bytes);
#pragma GCC unroll 8
    for (int n = 0; n < kTileColumns; ++n) {
      acc[m][n] = _mm512_dpbf16_ps(acc[m][n], (__m512bh)w[n], (__m512bh)x);
    }
  }
}

template <int kRows>
TARGET_BF16 inline __attribute__((always_inline)) void finish(
    const GemmTile& t, const __m512 (&acc)[kRows][kTileColumns]) {
#pragma GCC unroll 8
  for (int m = 0; m < kRows; ++m) {
    __m128 sums = sum_lanes4(acc[m][0], acc[m][1], acc[m][2], acc[m][3]);
    float* out = t.out + m * t.out_stride;
    if (t.add) sums = _mm_add_ps(_mm_loadu_ps(out), sums);
    _mm_storeu_ps(out, sums);
  }
}

template <int kRows>
TARGET_BF16 void tile(const GemmTile& tile) {
  const GemmTile t = tile;  // a copy: stores through out must not make the pointers look changed
  __m512 acc[kRows][kTileColumns];
#pragma GCC unroll 8
  for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 8
    for (int n = 0; n < kTileColumns; ++n) acc[m][n] = _mm512_setzero_ps();
  }
  const int64_t next_step = t.next_stride == 0 ? kTileColumns : 1;
  const int64_t next_stride = t.next_stride == 0 ? 64 : t.next_stride;
  const int64_t whole_bytes = t.k / 32 * 64;
  __m512i w[kTileColumns];
  for (int64_t at = 0; at < whole_bytes; at += 64) {
#pragma GCC unroll 8
    for (int i = 0; i < kTileColumns; ++i) {
      _mm_prefetch(reinterpret_cast<const char*>(t.next + at * next_step + i * next_stride),
                   _MM_HINT_T0);
    }
#pragma GCC unroll 8
    for (int n = 0; n < kTileColumns; ++n) w[n] = _mm512_loadu_si512(t.w[n] + at);
    step<kRows>(w, t, at, acc);
  }
  if (t.k % 32 != 0) {
    const __mmask32 mask = (1u << (t.k % 32)) - 1;
#pragma GCC unroll 8
    for (int n = 0; n < kTileColumns; ++n)
      w[n] = _mm512_maskz_loadu_epi16(mask, t.w[n] + whole_bytes);
    step<kRows>(w, t, whole_bytes, acc);
  }
  finish<kRows>(t, acc);
}

TARGET_BF16 void pack_bf16(const float* values, int64_t n, std::byte* packed) {
  for (int64_t i = 0; i < kPackUnit; i += 16) {
    const int64_t left = n - i;
    const __mmask16 mask = left >= 16 ? 0xFFFF : left <= 0 ? 0 : (1u << left) - 1;
    const __m256bh rounded = _mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(mask, values + i));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(packed + i * 2), (__m256i)rounded);
  }
}

}  // namespace

GemmBody gemm_body_avx512bf16() {
  return {.packed = DType::bf16,
          .rows = 6,
          .tile = {nullptr, tile<1>, tile<2>, tile<3>, tile<4>, tile<5>, tile<6>},
          .pack = pack_bf16};
}

}  // namespace ashlar
