// Quantised weights on a machine with VDPBF16PS: codes become bf16 in registers, exactly, by table.
//
// e4m3: the two bytes of a bf16 come from two tables of 128 bytes, 64 codes at a time (VBMI), and
// are interleaved within 128 bits: elements 0-7, 16-23, 32-39, 48-55, then the others. x is packed
// in that order. Sums of kScaleBlock products are multiplied by their scale and added, lane by
// lane. e2m1: a table of 16 words, to whose exponents the scale's is added.

#include <array>

#include "kernels/gemm/codes.h"
#include "kernels/gemm/dots_avx512bf16-inl.h"
#include "kernels/gemm/gemm_body.h"

#define TARGET_VBMI \
  __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx512vbmi")))
#define TARGET_VBMI_INLINE TARGET_VBMI inline __attribute__((always_inline))

namespace ashlar {
namespace {

struct Tables {
  alignas(64) std::array<uint8_t, 128> high, low;  // bytes of bf16, by e4m3 code without its sign
};
constexpr Tables make_tables() {
  Tables t = {};
  for (unsigned code = 0; code < 128; ++code) {
    // A NaN's bits are written down: what the compiler makes of one is its own choice.
    const uint32_t bits =
        code == 127 ? 0x7FC00000u : std::bit_cast<uint32_t>(F8E4M3::kFormat.value(code));
    t.high[code] = static_cast<uint8_t>(bits >> 24);
    t.low[code] = static_cast<uint8_t>(bits >> 16);
  }
  return t;
}
constexpr Tables kTables = make_tables();

struct E4M3 {
  __m512i high[2], low[2];
};
TARGET_VBMI_INLINE E4M3 load_tables() {
  E4M3 t;
  for (int i = 0; i < 2; ++i) {
    t.high[i] = _mm512_load_si512(kTables.high.data() + 64 * i);
    t.low[i] = _mm512_load_si512(kTables.low.data() + 64 * i);
  }
  return t;
}

// 64 codes to two vectors of bf16.
TARGET_VBMI_INLINE void widen(const E4M3& t, __m512i codes, __m512i (&w)[2]) {
  const __m512i low = _mm512_permutex2var_epi8(t.low[0], codes, t.low[1]);
  const __m512i magnitude = _mm512_permutex2var_epi8(t.high[0], codes, t.high[1]);
  // magnitude | (codes & 0x80)
  const __m512i high = _mm512_ternarylogic_epi32(magnitude, codes, _mm512_set1_epi8(-128), 0xF8);
  w[0] = _mm512_unpacklo_epi8(low, high);
  w[1] = _mm512_unpackhi_epi8(low, high);
}

TARGET_VBMI void pack_e4m3(const float* values, int64_t n, std::byte* packed) {
  // Eighths of the 64 elements go to 16-byte places: even ones first.
  for (int64_t i = 0; i < 8; ++i) {
    const int64_t left = n - i * 8;
    const __mmask8 mask = left >= 8 ? 0xFF : left <= 0 ? 0 : (1u << left) - 1;
    const __m128bh rounded = _mm256_cvtneps_pbh(_mm256_maskz_loadu_ps(mask, values + i * 8));
    const int64_t place = i / 2 + i % 2 * 4;
    _mm_storeu_si128(reinterpret_cast<__m128i*>(packed + place * 16), (__m128i)rounded);
  }
}

TARGET_VBMI_INLINE __m512i load_codes(const std::byte* codes, int64_t n) {
  if (n >= 64) return _mm512_loadu_si512(codes);
  return _mm512_maskz_loadu_epi8((uint64_t{1} << n) - 1, codes);
}

TARGET_VBMI void decode_e4m3(const std::byte* codes, const std::byte*, int64_t n,
                             std::byte* decoded) {
  const E4M3 tables = load_tables();
  for (int64_t at = 0; at < n; at += 64) {
    __m512i w[2];
    _mm_prefetch(reinterpret_cast<const char*>(codes + at + kStreamAhead), _MM_HINT_T0);
    widen(tables, load_codes(codes + at, n - at), w);
    _mm512_storeu_si512(decoded + at * 2, w[0]);
    _mm512_storeu_si512(decoded + at * 2 + 64, w[1]);
  }
}

// One block of scales of decoded weights; x and w are padded with zeros to a multiple of 64. Sums
// are folded before they are scaled: a multiplication for four outputs instead of one.
template <int kRows, int kSteps>
TARGET_BF16_INLINE void scaled_block(const GemmTile& t, int64_t begin, __m512 (&total)[kRows]) {
  __m512 acc[kRows][kTileColumns];
#pragma GCC unroll 8
  for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 8
    for (int n = 0; n < kTileColumns; ++n) acc[m][n] = _mm512_setzero_ps();
  }
#pragma GCC unroll 4
  for (int step = 0; step < kSteps; ++step) {
    const int64_t at = begin * 2 + step * 64;
    __m512i w[kTileColumns];
#pragma GCC unroll 8
    for (int n = 0; n < kTileColumns; ++n) {
      w[n] = _mm512_loadu_si512(t.w[n] + at);
      _mm_prefetch(reinterpret_cast<const char*>(t.next + n * t.next_stride + at), _MM_HINT_T0);
    }
#pragma GCC unroll 8
    for (int m = 0; m < kRows; ++m) {
      const __m512i x = _mm512_load_si512(t.x + m * t.x_stride + at);
#pragma GCC unroll 8
      for (int n = 0; n < kTileColumns; ++n) {
        acc[m][n] = _mm512_dpbf16_ps(acc[m][n], (__m512bh)w[n], (__m512bh)x);
      }
    }
  }
  const int64_t index = begin / kScaleBlock;
  const __m512 scale = _mm512_broadcast_f32x4(
      _mm_setr_ps(t.scale[0][index], t.scale[1][index], t.scale[2][index], t.scale[3][index]));
#pragma GCC unroll 8
  for (int m = 0; m < kRows; ++m) {
    const __m512 folded = fold4(acc[m][0], acc[m][1], acc[m][2], acc[m][3]);
    total[m] = _mm512_fmadd_ps(scale, folded, total[m]);
  }
}

template <int kRows>
TARGET_BF16 void scaled_tile(const GemmTile& tile) {
  const GemmTile t = tile;
  __m512 total[kRows];
#pragma GCC unroll 8
  for (int m = 0; m < kRows; ++m) total[m] = _mm512_setzero_ps();
  int64_t at = 0;
  for (; at + kScaleBlock / 2 < t.k; at += kScaleBlock) scaled_block<kRows, 4>(t, at, total);
  if (at < t.k) scaled_block<kRows, 2>(t, at, total);
#pragma GCC unroll 8
  for (int m = 0; m < kRows; ++m) {
    __m128 sums = sum_blocks(total[m]);
    float* out = t.out + m * t.out_stride;
    if (t.add) sums = _mm_add_ps(_mm_loadu_ps(out), sums);
    _mm_storeu_ps(out, sums);
  }
}

// One block of scales of one row of codes.
template <int kRows>
TARGET_VBMI_INLINE void stream_scaled(const E4M3& tables, const std::byte* w, const std::byte* x,
                                      int64_t x_stride, int64_t n, float scale,
                                      __m512 (&total)[kRows]) {
  __m512 acc[kRows];
#pragma GCC unroll 8
  for (int m = 0; m < kRows; ++m) acc[m] = _mm512_setzero_ps();
#pragma GCC unroll 2
  for (int64_t at = 0; at < n; at += 64) {
    __m512i v[2];
    widen(tables, load_codes(w + at, n - at), v);
    _mm_prefetch(reinterpret_cast<const char*>(w + at + kStreamAhead), _MM_HINT_T0);
#pragma GCC unroll 8
    for (int m = 0; m < kRows; ++m) {
      const std::byte* xm = x + m * x_stride + at * 2;
      acc[m] = _mm512_dpbf16_ps(acc[m], (__m512bh)v[0], (__m512bh)_mm512_load_si512(xm));
      acc[m] = _mm512_dpbf16_ps(acc[m], (__m512bh)v[1], (__m512bh)_mm512_load_si512(xm + 64));
    }
  }
  const __m512 factor = _mm512_set1_ps(scale);
#pragma GCC unroll 8
  for (int m = 0; m < kRows; ++m) total[m] = _mm512_fmadd_ps(factor, fold(acc[m]), total[m]);
}

TARGET_BF16_INLINE void put(const GemmStream& s, int m, int64_t n, bool add, float sum) {
  float* out = s.out + m * s.out_stride + n;
  *out = add ? *out + sum : sum;
}

template <int kRows>
TARGET_VBMI void stream_e4m3(const GemmStream& stream) {
  const GemmStream s = stream;
  const E4M3 tables = load_tables();
  for (int64_t n = 0; n < s.n_columns; ++n) {
    const std::byte* w = s.w + n * s.w_stride;
    const std::byte* x = s.x;
    const auto* scale = reinterpret_cast<const float*>(s.matrix->scales_of(s.n_begin + n));
    for (int64_t k = 0; k < s.k || k == 0; k += s.block, x += s.x_block_stride) {
      const int64_t end = s.k - k < s.block ? s.k - k : s.block;
      __m512 total[kRows];
#pragma GCC unroll 8
      for (int m = 0; m < kRows; ++m) total[m] = _mm512_setzero_ps();
      int64_t at = 0;
      for (; at + kScaleBlock <= end; at += kScaleBlock) {
        stream_scaled<kRows>(tables, w + k + at, x + at * 2, s.x_stride, kScaleBlock, *scale++,
                             total);
      }
      if (at < end) {
        stream_scaled<kRows>(tables, w + k + at, x + at * 2, s.x_stride, end - at, *scale++, total);
      }
#pragma GCC unroll 8
      for (int m = 0; m < kRows; ++m) {
        put(s, m, n, k > 0, _mm_cvtss_f32(sum_blocks(total[m])));
      }
    }
  }
}

// e2m1 as bf16, twice over: of the five bits of an index the fifth is noise.
constexpr std::array<uint16_t, 32> make_e2m1() {
  std::array<uint16_t, 32> table = {};
  for (uint8_t i = 0; i < 32; ++i) {
    table[i] = static_cast<uint16_t>(std::bit_cast<uint32_t>(from_e2m1(i & 15)) >> 16);
  }
  return table;
}
alignas(64) constexpr std::array<uint16_t, 32> kE2M1 = make_e2m1();
constexpr __mmask32 kNotZero = 0xFEFEFEFE;

// A group: 16 bytes to 32 bf16, scaled. A word of the index has the code in its low four bits.
TARGET_BF16_INLINE __m512i widen_group(__m512i table, const std::byte* codes, std::byte scale) {
  int exponent = static_cast<int>(scale) - 127;
  exponent = exponent < -125 ? -125 : exponent > 125 ? 125 : exponent;
  const __m512i shift = _mm512_set1_epi16(static_cast<int16_t>(exponent * 128));
  const __m512i scaled = _mm512_mask_add_epi16(table, kNotZero, table, shift);
  const __m512i pairs =
      _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(codes)));
  const __m512i index = _mm512_or_si512(pairs, _mm512_slli_epi32(pairs, 12));
  return _mm512_permutexvar_epi16(index, scaled);
}

TARGET_BF16 void decode_e2m1(const std::byte* codes, const std::byte* scales, int64_t n,
                             std::byte* decoded) {
  const __m512i table = _mm512_load_si512(kE2M1.data());
  for (int64_t at = 0; at < n; at += kScaleGroup) {
    _mm_prefetch(reinterpret_cast<const char*>(codes + at / 2 + kStreamAhead), _MM_HINT_T0);
    _mm512_storeu_si512(decoded + at * 2, widen_group(table, codes + at / 2, *scales++));
  }
}

// kColumns weight rows at once: one output's chain of sums, six cycles a group, is longer than the
// work for a group.
template <int kRows, int kColumns>
TARGET_BF16_INLINE void stream_columns(const GemmStream& s, int64_t n0) {
  const __m512i table = _mm512_load_si512(kE2M1.data());
  const std::byte* w[kColumns];
  const std::byte* scale[kColumns];
  for (int n = 0; n < kColumns; ++n) {
    w[n] = s.w + (n0 + n) * s.w_stride;
    scale[n] = s.matrix->scales_of(s.n_begin + n0 + n);
  }
  const std::byte* x = s.x;
  for (int64_t k = 0; k < s.k || k == 0; k += s.block, x += s.x_block_stride) {
    const int64_t end = s.k - k < s.block ? s.k - k : s.block;
    __m512 acc[kRows][kColumns];
#pragma GCC unroll 8
    for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 8
      for (int n = 0; n < kColumns; ++n) acc[m][n] = _mm512_setzero_ps();
    }
    for (int64_t at = 0; at < end; at += kScaleGroup) {
      __m512i v[kColumns];
#pragma GCC unroll 8
      for (int n = 0; n < kColumns; ++n) {
        const std::byte* codes = w[n] + (k + at) / 2;
        _mm_prefetch(reinterpret_cast<const char*>(codes + kColumns * s.w_stride), _MM_HINT_T0);
        v[n] = widen_group(table, codes, scale[n][(k + at) / kScaleGroup]);
      }
#pragma GCC unroll 8
      for (int m = 0; m < kRows; ++m) {
        const __m512i xm = _mm512_load_si512(x + m * s.x_stride + at * 2);
#pragma GCC unroll 8
        for (int n = 0; n < kColumns; ++n) {
          acc[m][n] = _mm512_dpbf16_ps(acc[m][n], (__m512bh)v[n], (__m512bh)xm);
        }
      }
    }
    for (int m = 0; m < kRows; ++m) {
      for (int n = 0; n < kColumns; ++n) put(s, m, n0 + n, k > 0, sum_lanes(acc[m][n]));
    }
  }
}

template <int kRows>
TARGET_BF16 void stream_e2m1(const GemmStream& stream) {
  const GemmStream s = stream;
  int64_t n = 0;
  for (; n + 4 <= s.n_columns; n += 4) stream_columns<kRows, 4>(s, n);
  for (; n < s.n_columns; ++n) stream_columns<kRows, 1>(s, n);
}

}  // namespace

GemmBody gemm_body_e4m3_avx512bf16() {
  if (!__builtin_cpu_supports("avx512vbmi")) return {};
  return {.packed = DType::bf16,
          .rows = 6,
          .tile = {nullptr, scaled_tile<1>, scaled_tile<2>, scaled_tile<3>, scaled_tile<4>,
                   scaled_tile<5>, scaled_tile<6>},
          .stream = {nullptr, stream_e4m3<1>, stream_e4m3<2>, stream_e4m3<3>, stream_e4m3<4>,
                     stream_e4m3<5>, stream_e4m3<6>},
          .pack = pack_e4m3,
          .decode = decode_e4m3,
          .scaled_tiles = true};
}

GemmBody gemm_body_e2m1_avx512bf16() {
  GemmBody body = gemm_body_avx512bf16();
  body.stream[1] = stream_e2m1<1>, body.stream[2] = stream_e2m1<2>;
  body.stream[3] = stream_e2m1<3>, body.stream[4] = stream_e2m1<4>;
  body.stream[5] = stream_e2m1<5>, body.stream[6] = stream_e2m1<6>;
  body.decode = decode_e2m1;
  return body;
}

}  // namespace ashlar
