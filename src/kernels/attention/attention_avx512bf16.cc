// The body for machines that multiply pairs of bf16: scores and weighted sums by VDPBF16PS,
// straight from bf16 pages. Softmax, merge and store are the Highway ones.
//
// Instruction sets are function attributes, and nothing of the standard library is called from such
// functions: an inline function compiled here would be linked into code that runs everywhere.

#include <bit>

#include "kernels/attention/attention.h"
#include "kernels/attention/tile.h"

#if defined(__x86_64__)
#include <immintrin.h>

// Sums live in registers only if the loops that index them are unrolled early.
#define ASHLAR_UNROLL _Pragma("GCC unroll 16")

#define ASHLAR_TARGET \
  __attribute__((target("avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512bf16,fma")))
#define ASHLAR_INLINE ASHLAR_TARGET __attribute__((always_inline)) inline

namespace ashlar {
namespace {

constexpr int64_t kPack = 8;  // dims of a row of q that lie together: a 128-bit lane

ASHLAR_INLINE __m512 dot(__m512 sum, __m512i a, __m512i b) {
  return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
}

ASHLAR_INLINE __m128i round8(const float* from, __mmask8 mask) {
  return reinterpret_cast<__m128i>(_mm256_cvtneps_pbh(_mm256_maskz_loadu_ps(mask, from)));
}

// A mask of the first n lanes of `lanes`; n may lie outside of them.
uint32_t first_lanes(int64_t n, int64_t lanes) {
  if (n <= 0) return 0;
  return n >= lanes ? ~0u : (1u << n) - 1;
}

// q: [quads][padded k / 8][4 rows][8 dims] bf16.
ASHLAR_TARGET void pack(BlockWork& w) {
  const int64_t width = padded(w.k_dim);
  for (int64_t quad = 0; quad < w.n_quads; ++quad) {
    const float* const* rows = w.q_rows + quad * kQuad;
    // A prefill's queries come from memory, a few kilobytes per head.
    const float* const* ahead = w.q_rows + (quad + 3 < w.n_quads ? quad + 3 : quad) * kQuad;
    std::byte* to = w.q + quad * kQuad * width * 2;
    for (int64_t k = 0; k < width; k += kPack, to += 64) {
      const auto mask = static_cast<__mmask8>(first_lanes(w.k_dim - k, kPack));
      for (int r = 0; k % 16 == 0 && r < kQuad; ++r) __builtin_prefetch(ahead[r] + k, 0, 3);
      __m512i four = _mm512_castsi128_si512(round8(rows[0] + k, mask));
      four = _mm512_inserti32x4(four, round8(rows[1] + k, mask), 1);
      four = _mm512_inserti32x4(four, round8(rows[2] + k, mask), 2);
      four = _mm512_inserti32x4(four, round8(rows[3] + k, mask), 3);
      _mm512_store_si512(to, four);
    }
  }
}

// K is used where it lies, unless its width is no multiple of a pack or its elements are no bf16:
// then k_tile holds rows that end in zeros, [tokens][padded k] bf16.
ASHLAR_INLINE const std::byte* k_row(const BlockWork& w, int64_t token) {
  if (w.dtype == DType::bf16 && w.k_dim % kPack == 0) return w.tile->k[token];
  return w.k_tile + token * padded(w.k_dim) * 2;
}

// bf16 of the 128 magnitudes of an 8-bit float, which they hold exactly. Subnormals are normal
// numbers there (the products would flush subnormal ones); NaN stays NaN.
struct F8Table {
  alignas(64) uint16_t values[128];
};

constexpr F8Table make_table(const F8Format& format) {
  F8Table table{};
  for (uint32_t code = 0; code < 128; ++code) {
    uint32_t bits = (code << format.shift()) + format.rebias();
    if (code >> format.mantissa_bits == 0) {
      bits = std::bit_cast<uint32_t>(static_cast<float>(code) * format.unit());
    } else if (code >= format.first_special) {
      bits = 0x7F800000u | (code << format.shift());
    }
    table.values[code] = static_cast<uint16_t>(bits >> 16);
  }
  return table;
}

constexpr F8Table kE4M3 = make_table(F8E4M3::kFormat);
constexpr F8Table kE5M2 = make_table(F8E5M2::kFormat);

// The table in registers, 32 numbers each, and how to look up 32 codes at a time.
struct Widener {
  __m512i parts[4];
};

ASHLAR_INLINE Widener widener(const BlockWork& w) {
  const F8Table& table = w.dtype == DType::f8e5m2 ? kE5M2 : kE4M3;
  Widener made;
  ASHLAR_UNROLL
  for (int i = 0; i < 4; ++i) made.parts[i] = _mm512_load_si512(table.values + i * 32);
  return made;
}

ASHLAR_INLINE __m512i widen(const Widener& by, __m256i codes) {
  const __m512i x = _mm512_cvtepi8_epi16(codes);
  const __m512i low = _mm512_permutex2var_epi16(by.parts[0], x, by.parts[1]);
  const __m512i high = _mm512_permutex2var_epi16(by.parts[2], x, by.parts[3]);
  const __mmask32 is_high = _mm512_test_epi16_mask(x, _mm512_set1_epi16(0x40));
  const __m512i magnitude = _mm512_mask_mov_epi16(low, is_high, high);
  constexpr int kFirstOrBothOthers = 0xF8;
  return _mm512_ternarylogic_epi32(magnitude, x, _mm512_set1_epi16(-0x8000), kFirstOrBothOthers);
}

// Elements [at, at + 32) of a row as bf16; those from `n` on are zeros and not read.
template <bool kF8>
ASHLAR_INLINE __m512i elements(const Widener& by, const std::byte* row, int64_t at, int64_t n) {
  if (n - at >= 32) {
    if constexpr (!kF8) return _mm512_loadu_si512(row + at * 2);
    return widen(by, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row + at)));
  }
  const uint32_t mask = first_lanes(n - at, 32);
  if constexpr (kF8) return widen(by, _mm256_maskz_loadu_epi8(mask, row + at));
  return _mm512_maskz_loadu_epi16(mask, row + at * 2);
}

// Fills k_tile's rows of a group of tokens.
template <bool kF8>
ASHLAR_INLINE void lay_k(const BlockWork& w, const Widener& by, int64_t group) {
  const int64_t width = padded(w.k_dim);
  for (int64_t i = group * kQuad; i < (group + 1) * kQuad; ++i) {
    std::byte* to = w.k_tile + i * width * 2;
    for (int64_t k = 0; k < width; k += 32) {
      _mm512_store_si512(to + k * 2, elements<kF8>(by, w.tile->k[i], k, w.k_dim));
    }
  }
}

ASHLAR_TARGET void load(BlockWork& w) {
  if (is_f8(w.dtype) || w.k_dim % kPack == 0) return;  // the first pass of scores widens 8 bits
  for (int64_t g = w.tile->group_begin; g < w.tile->group_end; ++g) lay_k<false>(w, {}, g);
}

// v_tile: [pairs of tokens][padded v][2] bf16, each 32 dims in two vectors: the unpacking of
// 128-bit lanes puts dims 0-3, 8-11, 16-19, 24-27 in the first and the others in the second.
// State.out has the same order until it is stored. (A permutation to natural order would compete
// with the products for their ports; unpacking does not.)
template <bool kF8>
ASHLAR_INLINE void interleave(const BlockWork& w, const Widener& by, int64_t pair) {
  const int64_t width = padded(w.v_dim);
  const std::byte* even = w.tile->v[2 * pair];
  const std::byte* odd = w.tile->v[2 * pair + 1];
  std::byte* to = w.v_tile + pair * width * 4;
  for (int64_t dim = 0; dim < width; dim += 32) {
    const __m512i a = elements<kF8>(by, even, dim, w.v_dim);
    const __m512i b = elements<kF8>(by, odd, dim, w.v_dim);
    _mm512_store_si512(to + dim * 4, _mm512_unpacklo_epi16(a, b));
    _mm512_store_si512(to + dim * 4 + 64, _mm512_unpackhi_epi16(a, b));
  }
}

// Puts state.out's dims into natural order, in place.
ASHLAR_TARGET void restore_order(const BlockWork& w, const State& state) {
  const __m512i low = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11);
  const __m512i high = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
  const int64_t width = padded(w.v_dim);
  for (float* at = state.out; at < state.out + w.n_rows * width; at += 32) {
    const __m512i a = _mm512_load_si512(at), b = _mm512_load_si512(at + 16);
    _mm512_store_si512(at, _mm512_permutex2var_epi64(a, low, b));
    _mm512_store_si512(at + 16, _mm512_permutex2var_epi64(a, high, b));
  }
}

void store(const BlockWork& w, const State& state) {
  restore_order(w, state);
  tile_body(Isa::avx512).store(w, state);
}

// Lanes (row, partial) of four tokens' sums to lanes (row, token).
ASHLAR_INLINE __m512 sum_partials(__m512 t0, __m512 t1, __m512 t2, __m512 t3) {
  const __m512 s01 = _mm512_add_ps(_mm512_unpacklo_ps(t0, t1), _mm512_unpackhi_ps(t0, t1));
  const __m512 s23 = _mm512_add_ps(_mm512_unpacklo_ps(t2, t3), _mm512_unpackhi_ps(t2, t3));
  const __m512d a = _mm512_castps_pd(s01), b = _mm512_castps_pd(s23);
  return _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)),
                       _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)));
}

// Scores of kQuads quads of rows against kGroups groups of tokens. A 128-bit piece of a K row is
// broadcast to the four rows' lanes, so four partial sums per row fill a vector.
//
// kFirst spreads requests for the next tile's same tokens over the products, one line or two at a
// time: the core can wait for a few dozen lines, and more at once would stall the loads.
template <int kQuads, int kGroups, bool kFirst>
ASHLAR_TARGET void score(const BlockWork& w, int64_t quad, int64_t group) {
  constexpr int kTokens = kGroups * kQuad;
  const int64_t quad_bytes = kQuad * padded(w.k_dim) * 2;
  const std::byte* q = w.q + quad * quad_bytes;
  const std::byte* k[kTokens];
  ASHLAR_UNROLL
  for (int t = 0; t < kTokens; ++t) k[t] = k_row(w, group * kQuad + t);
  const std::byte* const* next_k = w.next->k + group * kQuad;
  const int64_t silent = is_f8(w.dtype) ? kPack * 2 : 0;
  int64_t line = 0;
  __m512 sums[kTokens][kQuads];
  ASHLAR_UNROLL
  for (int t = 0; t < kTokens; ++t) {
    ASHLAR_UNROLL
    for (int n = 0; n < kQuads; ++n) sums[t][n] = _mm512_setzero_ps();
  }
  for (int64_t at = 0; at < w.k_dim * 2; at += kPack * 2, q += 64) {
    if constexpr (kFirst) {
      // Four steps pass over one line of bf16 K, eight over one of 8 bits, so each, or every other,
      // asks for one line per group: in the order of addresses, which the hardware's own prefetcher
      // follows.
      for (int g = 0; g < (at & silent ? 0 : kGroups); ++g) {
        __builtin_prefetch(*next_k + line, 0, 3);
        line += 64;
        const bool row_done = line >= w.k_bytes();
        next_k += row_done;
        line = row_done ? 0 : line;
      }
    }
    __m512i qs[kQuads];
    ASHLAR_UNROLL
    for (int n = 0; n < kQuads; ++n) qs[n] = _mm512_load_si512(q + n * quad_bytes);
    ASHLAR_UNROLL
    for (int t = 0; t < kTokens; ++t) {
      const __m512i ks =
          _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(k[t] + at)));
      ASHLAR_UNROLL
      for (int n = 0; n < kQuads; ++n) sums[t][n] = dot(sums[t][n], ks, qs[n]);
    }
  }
  ASHLAR_UNROLL
  for (int g = 0; g < kGroups; ++g) {
    ASHLAR_UNROLL
    for (int n = 0; n < kQuads; ++n) {
      _mm512_store_ps(w.scores + ((quad + n) * kTileGroups + group + g) * kCell,
                      sum_partials(sums[g * kQuad][n], sums[g * kQuad + 1][n],
                                   sums[g * kQuad + 2][n], sums[g * kQuad + 3][n]));
    }
  }
}

template <bool kF8>
ASHLAR_INLINE void lay_group(const BlockWork& w, const Widener& by, int64_t group) {
  if constexpr (kF8) lay_k<true>(w, by, group);
  interleave<kF8>(w, by, group * 2);
  interleave<kF8>(w, by, group * 2 + 1);
}

// The first pass over a tile: lays out V (of 8 bits: K too) as it goes, and asks for the next tile.
template <int kQuads, int kGroups, bool kF8>
ASHLAR_TARGET void score_first(const BlockWork& w) {
  const Widener by = kF8 ? widener(w) : Widener{};
  int64_t group = w.tile->group_begin;
  for (; group + kGroups <= w.tile->group_end; group += kGroups) {
    for (int g = 0; g < kGroups; ++g) lay_group<kF8>(w, by, group + g);
    score<kQuads, kGroups, true>(w, 0, group);
  }
  for (; group < w.tile->group_end; ++group) {
    lay_group<kF8>(w, by, group);
    score<kQuads, 1, true>(w, 0, group);
  }
}

template <int kQuads, int kGroups>
ASHLAR_TARGET void score_more(const BlockWork& w, int64_t quad) {
  int64_t group = w.tile->group_begin;
  for (; group + kGroups <= w.tile->group_end; group += kGroups) {
    score<kQuads, kGroups, false>(w, quad, group);
  }
  for (; group < w.tile->group_end; ++group) score<kQuads, 1, false>(w, quad, group);
}

template <bool kF8>
ASHLAR_TARGET void scores_of(BlockWork& w) {
  if (w.n_quads >= 4) score_first<4, 1, kF8>(w);
  if (w.n_quads == 3) score_first<3, 1, kF8>(w);
  if (w.n_quads == 2) score_first<2, 2, kF8>(w);
  if (w.n_quads == 1) score_first<1, 2, kF8>(w);
  int64_t quad = 4;
  for (; quad + 4 <= w.n_quads; quad += 4) score_more<4, 1>(w, quad);
  if (w.n_quads - quad == 3) score_more<3, 1>(w, quad);
  if (w.n_quads - quad == 2) score_more<2, 2>(w, quad);
  if (w.n_quads - quad == 1) score_more<1, 2>(w, quad);
}

ASHLAR_TARGET void scores(BlockWork& w) {
  is_f8(w.dtype) ? scores_of<true>(w) : scores_of<false>(w);
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

// Of each group of the next tile's tokens, the lines of V that a part of the work asks for: n from
// byte `line` of token `token` on.
struct Lines {
  int64_t token;
  int64_t line;
  int64_t n;
};

// out = out * alpha + p V for one quad of rows and 16 * kVectors of V's dims from `dim`.
template <int kVectors>
ASHLAR_INLINE void weigh_part(const BlockWork& w, int64_t quad, int64_t dim, Lines ahead) {
  const int64_t width = padded(w.v_dim);
  float* out = w.state.out + quad * kQuad * width + dim;
  const float* alpha = w.alpha + quad * kCell;
  __m512 sums[kQuad][kVectors];
  ASHLAR_UNROLL
  for (int r = 0; r < kQuad; ++r) {
    const __m512 factor = _mm512_set1_ps(alpha[r * kQuad]);
    ASHLAR_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      sums[r][v] = _mm512_mul_ps(_mm512_load_ps(out + r * width + v * 16), factor);
    }
  }
  const auto* p = reinterpret_cast<const int32_t*>(w.p) + quad * kTileGroups * kCell / 2;
  for (int64_t g = w.tile->group_begin; g < w.tile->group_end; ++g) {
    const std::byte* const* next_v = w.next->v + g * kQuad + ahead.token;
    for (int64_t i = 0, line = ahead.line; i < ahead.n; ++i) {
      __builtin_prefetch(*next_v + line, 0, 3);
      line += 64;
      const bool row_done = line >= w.v_bytes();
      next_v += row_done;
      line = row_done ? 0 : line;
    }
    for (int pair = 0; pair < 2; ++pair) {
      const std::byte* v_pair = w.v_tile + ((g * 2 + pair) * width + dim) * 4;
      __m512i vs[kVectors];
      ASHLAR_UNROLL
      for (int v = 0; v < kVectors; ++v) vs[v] = _mm512_load_si512(v_pair + v * 64);
      ASHLAR_UNROLL
      for (int r = 0; r < kQuad; ++r) {
        const __m512i ps = _mm512_set1_epi32(p[g * kCell / 2 + r * 2 + pair]);
        ASHLAR_UNROLL
        for (int v = 0; v < kVectors; ++v) sums[r][v] = dot(sums[r][v], ps, vs[v]);
      }
    }
  }
  ASHLAR_UNROLL
  for (int r = 0; r < kQuad; ++r) {
    ASHLAR_UNROLL
    for (int v = 0; v < kVectors; ++v) _mm512_store_ps(out + r * width + v * 16, sums[r][v]);
  }
}

ASHLAR_TARGET void weigh(BlockWork& w) {
  const int64_t width = padded(w.v_dim);
  const int64_t row_lines = (w.v_bytes() + 63) / 64;
  const int64_t lines = row_lines * kQuad;
  const int64_t parts = w.n_quads * ((width + 63) / 64);
  int64_t part = 0;
  for (int64_t quad = 0; quad < w.n_quads; ++quad) {
    round_probabilities(w, quad);
    for (int64_t dim = 0; dim < width; dim += 64, ++part) {
      const int64_t begin = lines * part / parts, end = lines * (part + 1) / parts;
      const Lines ahead{begin / row_lines, begin % row_lines * 64, end - begin};
      if (dim + 64 <= width) {
        weigh_part<4>(w, quad, dim, ahead);
      } else {
        weigh_part<2>(w, quad, dim, ahead);
      }
    }
  }
}

}  // namespace

TileBody with_bf16_products(TileBody body) {
  body.pack = pack;
  body.load = load;
  body.scores = scores;
  body.weigh = weigh;
  body.store = store;
  return body;
}

}  // namespace ashlar

#else

namespace ashlar {
TileBody with_bf16_products(TileBody body) { return body; }
}  // namespace ashlar

#endif
