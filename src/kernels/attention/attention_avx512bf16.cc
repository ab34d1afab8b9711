// The body for machines that multiply pairs of bf16: scores and weighted sums by VDPBF16PS,
// straight from bf16 pages. Softmax, merge and store are the Highway ones.
//
// Instruction sets are function attributes, and nothing of the standard library is called from such
// functions: an inline function compiled here would be linked into code that runs everywhere.

#include "kernels/attention/attention.h"
#include "kernels/attention/tile.h"

#if defined(__x86_64__)
#include <immintrin.h>

#if !defined(__clang__)
// g++ 12 warns of its own intrinsics, whose pass-through operand is undefined on purpose.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
// Sums live in registers only if the loops that index them are unrolled before g++ decides.
#define ASHLAR_UNROLL _Pragma("GCC unroll 16")
#else
#define ASHLAR_UNROLL _Pragma("unroll")
#endif

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

// K is used where it lies, unless its width is no multiple of a pack: then k_tile holds rows that
// end in zeros, [tokens][padded k] bf16.
ASHLAR_INLINE const std::byte* k_row(const BlockWork& w, int64_t token) {
  if (w.k_dim % kPack == 0) return w.tile->k[token];
  return w.k_tile + token * padded(w.k_dim) * 2;
}

ASHLAR_TARGET void pad_k(BlockWork& w) {
  const int64_t width = padded(w.k_dim);
  for (int64_t i = w.tile->group_begin * kQuad; i < w.tile->group_end * kQuad; ++i) {
    for (int64_t k = 0; k < width; k += 16) {
      const auto mask = static_cast<__mmask16>(first_lanes(w.k_dim - k, 16));
      _mm256_store_si256(reinterpret_cast<__m256i*>(w.k_tile + (i * width + k) * 2),
                         _mm256_maskz_loadu_epi16(mask, w.tile->k[i] + k * 2));
    }
  }
}

ASHLAR_TARGET void load(BlockWork& w) {
  if (w.k_dim % kPack != 0) pad_k(w);
}

// v_tile: [pairs of tokens][padded v][2] bf16, each 32 dims in two vectors: the unpacking of
// 128-bit lanes puts dims 0-3, 8-11, 16-19, 24-27 in the first and the others in the second.
// State.out has the same order until it is stored. (A permutation to natural order would compete
// with the products for their ports; unpacking does not.)
ASHLAR_INLINE void interleave(const BlockWork& w, int64_t pair) {
  const int64_t width = padded(w.v_dim);
  const std::byte* even = w.tile->v[2 * pair];
  const std::byte* odd = w.tile->v[2 * pair + 1];
  std::byte* to = w.v_tile + pair * width * 4;
  int64_t dim = 0;
  for (; dim + 32 <= w.v_dim; dim += 32) {
    const __m512i a = _mm512_loadu_si512(even + dim * 2);
    const __m512i b = _mm512_loadu_si512(odd + dim * 2);
    _mm512_store_si512(to + dim * 4, _mm512_unpacklo_epi16(a, b));
    _mm512_store_si512(to + dim * 4 + 64, _mm512_unpackhi_epi16(a, b));
  }
  if (dim < w.v_dim) {
    const uint32_t mask = first_lanes(w.v_dim - dim, 32);
    const __m512i a = _mm512_maskz_loadu_epi16(mask, even + dim * 2);
    const __m512i b = _mm512_maskz_loadu_epi16(mask, odd + dim * 2);
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
  int64_t line = 0;
  __m512 sums[kTokens][kQuads];
  ASHLAR_UNROLL
  for (int t = 0; t < kTokens; ++t) {
    ASHLAR_UNROLL
    for (int n = 0; n < kQuads; ++n) sums[t][n] = _mm512_setzero_ps();
  }
  for (int64_t at = 0; at < w.k_dim * 2; at += kPack * 2, q += 64) {
    if constexpr (kFirst) {
      // Four steps pass over one line of K, so each asks for one line per group: in the order of
      // addresses, which the hardware's own prefetcher follows.
      for (int g = 0; g < kGroups; ++g) {
        __builtin_prefetch(*next_k + line, 0, 3);
        line += 64;
        const bool row_done = line >= w.k_dim * 2;
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

template <int kQuads, int kGroups, bool kFirst>
ASHLAR_TARGET void score_quads(const BlockWork& w, int64_t quad) {
  int64_t group = w.tile->group_begin;
  for (; group + kGroups <= w.tile->group_end; group += kGroups) {
    if constexpr (kFirst) {
      for (int pair = 0; pair < 2 * kGroups; ++pair) interleave(w, group * 2 + pair);
    }
    score<kQuads, kGroups, kFirst>(w, quad, group);
  }
  for (; group < w.tile->group_end; ++group) {
    if constexpr (kFirst) interleave(w, group * 2), interleave(w, group * 2 + 1);
    score<kQuads, 1, kFirst>(w, quad, group);
  }
}

ASHLAR_TARGET void scores(BlockWork& w) {
  // The first pass over the tile asks for the next one.
  if (w.n_quads >= 4) score_quads<4, 1, true>(w, 0);
  if (w.n_quads == 3) score_quads<3, 1, true>(w, 0);
  if (w.n_quads == 2) score_quads<2, 2, true>(w, 0);
  if (w.n_quads == 1) score_quads<1, 2, true>(w, 0);
  int64_t quad = 4;
  for (; quad + 4 <= w.n_quads; quad += 4) score_quads<4, 1, false>(w, quad);
  if (w.n_quads - quad == 3) score_quads<3, 1, false>(w, quad);
  if (w.n_quads - quad == 2) score_quads<2, 2, false>(w, quad);
  if (w.n_quads - quad == 1) score_quads<1, 2, false>(w, quad);
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
      const bool row_done = line >= w.v_dim * 2;
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
  const int64_t row_lines = (w.v_dim * 2 + 63) / 64;
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
