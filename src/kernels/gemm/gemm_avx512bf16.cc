// The tiles of a machine with VDPBF16PS: a step multiplies 32 pairs of bf16 and adds them in pairs
// to 16 float lanes. Functions here carry the target attribute themselves, so the file is compiled
// like any other, and call nothing but intrinsics.

#include "kernels/gemm/dots_avx512bf16-inl.h"
#include "kernels/gemm/gemm_body.h"

namespace ashlar {
namespace {

// acc += the products of 32 elements of every weight row with every x row.
template <int kRows>
TARGET_BF16_INLINE void step(const __m512i (&w)[kTileColumns], const GemmTile& t,
                             int64_t offset_bytes, __m512 (&acc)[kRows][kTileColumns]) {
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
TARGET_BF16_INLINE void finish(const GemmTile& t, const __m512 (&acc)[kRows][kTileColumns]) {
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

// One block of K of one weight row.
template <int kRows>
TARGET_BF16_INLINE void stream_block(const std::byte* w, const std::byte* x, int64_t x_stride,
                                     int64_t k, __m512 (&acc)[kRows]) {
#pragma GCC unroll 8
  for (int m = 0; m < kRows; ++m) acc[m] = _mm512_setzero_ps();
  const int64_t whole_bytes = k / 32 * 64;
  for (int64_t at = 0; at < whole_bytes; at += 64) {
    const __m512i v = _mm512_loadu_si512(w + at);
    _mm_prefetch(reinterpret_cast<const char*>(w + at + kStreamAhead), _MM_HINT_T0);
#pragma GCC unroll 8
    for (int m = 0; m < kRows; ++m) {
      const __m512i xm = _mm512_load_si512(x + m * x_stride + at);
      acc[m] = _mm512_dpbf16_ps(acc[m], (__m512bh)v, (__m512bh)xm);
    }
  }
  if (k % 32 != 0) {
    const __mmask32 mask = (1u << (k % 32)) - 1;
    const __m512i v = _mm512_maskz_loadu_epi16(mask, w + whole_bytes);
#pragma GCC unroll 8
    for (int m = 0; m < kRows; ++m) {
      const __m512i xm = _mm512_load_si512(x + m * x_stride + whole_bytes);
      acc[m] = _mm512_dpbf16_ps(acc[m], (__m512bh)v, (__m512bh)xm);
    }
  }
}

// One accumulator per output is a chain of dependent sums, but a block of K ends it: the processor
// works on the next block, or row, meanwhile.
template <int kRows>
TARGET_BF16 void stream(const GemmStream& stream) {
  const GemmStream s = stream;  // a copy, as in tile
  for (int64_t n = 0; n < s.n_columns; ++n) {
    const std::byte* w = s.w + n * s.w_stride;
    const std::byte* x = s.x;
    for (int64_t k = 0; k < s.k || k == 0; k += s.block) {
      const int64_t left = s.k - k < s.block ? s.k - k : s.block;
      __m512 acc[kRows];
      stream_block<kRows>(w + k * 2, x, s.x_stride, left, acc);
      x += s.x_block_stride;
#pragma GCC unroll 8
      for (int m = 0; m < kRows; ++m) {
        float* out = s.out + m * s.out_stride + n;
        const float sum = sum_lanes(acc[m]);
        *out = k > 0 ? *out + sum : sum;
      }
    }
  }
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
          .stream = {nullptr, stream<1>, stream<2>, stream<3>, stream<4>, stream<5>, stream<6>},
          .pack = pack_bf16};
}

}  // namespace ashlar
