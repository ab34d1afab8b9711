// The body for machines that multiply pairs of bf16: scores and weighted sums by VDPBF16PS,
// straight from bf16 pages. Softmax, merge and store are the Highway ones.

#include "kernels/attention/attention.h"
#include "kernels/attention/tile.h"

#if defined(__x86_64__)
#include "kernels/attention/dots_avx512bf16-inl.h"

namespace ashlar {
namespace {

constexpr int64_t kPack = 8;  // dims of a row of q that lie together: a 128-bit lane

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
// end in zeros, [tokens][padded k].
ASHLAR_INLINE const std::byte* k_row(const BlockWork& w, int64_t token) {
  if (w.k_dim % kPack == 0) return w.tile->k[token];
  return w.k_tile + token * padded(w.k_dim) * 2;
}

// Elements [at, at + 32) of a row; those from `n` on are zeros and not read.
ASHLAR_INLINE __m512i elements(const std::byte* row, int64_t at, int64_t n) {
  if (n - at >= 32) return _mm512_loadu_si512(row + at * 2);
  return _mm512_maskz_loadu_epi16(first_lanes(n - at, 32), row + at * 2);
}

ASHLAR_TARGET void load(BlockWork& w) {
  if (w.k_dim % kPack == 0) return;
  const int64_t width = padded(w.k_dim);
  for (int64_t i = w.tile->group_begin * kQuad; i < w.tile->group_end * kQuad; ++i) {
    std::byte* to = w.k_tile + i * width * 2;
    for (int64_t k = 0; k < width; k += 32) {
      _mm512_store_si512(to + k * 2, elements(w.tile->k[i], k, w.k_dim));
    }
  }
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
  for (int64_t dim = 0; dim < width; dim += 32) {
    const __m512i a = elements(even, dim, w.v_dim);
    const __m512i b = elements(odd, dim, w.v_dim);
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
  const int64_t silent = w.k_bytes < w.k_dim * 2 ? kPack * 2 : 0;
  int64_t line = 0;
  __m512 sums[kTokens][kQuads];
  ASHLAR_UNROLL
  for (int t = 0; t < kTokens; ++t) {
    ASHLAR_UNROLL
    for (int n = 0; n < kQuads; ++n) sums[t][n] = _mm512_setzero_ps();
  }
  for (int64_t at = 0; at < w.k_dim * 2; at += kPack * 2, q += 64) {
    if constexpr (kFirst) {
      // Four steps pass over one line of K (eight, where 8 bits of a page have become bf16 rows),
      // so each, or every other, asks for one line per group: in the order of addresses, which the
      // hardware's own prefetcher follows.
      for (int g = 0; g < (at & silent ? 0 : kGroups); ++g) {
        __builtin_prefetch(*next_k + line, 0, 3);
        line += 64;
        const bool row_done = line >= w.k_bytes;
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

ASHLAR_INLINE void interleave_group(const BlockWork& w, int64_t group) {
  interleave(w, group * 2);
  interleave(w, group * 2 + 1);
}

// The first pass over a tile: lays out V as it goes, and asks for the next tile.
template <int kQuads, int kGroups>
ASHLAR_TARGET void score_first(const BlockWork& w) {
  int64_t group = w.tile->group_begin;
  for (; group + kGroups <= w.tile->group_end; group += kGroups) {
    for (int g = 0; g < kGroups; ++g) interleave_group(w, group + g);
    score<kQuads, kGroups, true>(w, 0, group);
  }
  for (; group < w.tile->group_end; ++group) {
    interleave_group(w, group);
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

ASHLAR_TARGET void scores(BlockWork& w) {
  if (w.n_quads >= 4) score_first<4, 1>(w);
  if (w.n_quads == 3) score_first<3, 1>(w);
  if (w.n_quads == 2) score_first<2, 2>(w);
  if (w.n_quads == 1) score_first<1, 2>(w);
  int64_t quad = 4;
  for (; quad + 4 <= w.n_quads; quad += 4) score_more<4, 1>(w, quad);
  if (w.n_quads - quad == 3) score_more<3, 1>(w, quad);
  if (w.n_quads - quad == 2) score_more<2, 2>(w, quad);
  if (w.n_quads - quad == 1) score_more<1, 2>(w, quad);
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
      const bool row_done = line >= w.v_bytes;
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
  const int64_t row_lines = (w.v_bytes + 63) / 64;
  const int64_t lines = row_lines * kQuad;
  const int64_t parts = w.n_quads * ((width + 63) / 64);
  int64_t part = 0;
  for (int64_t quad = 0; quad < w.n_quads; ++quad) {
    round_probabilities(w, quad);
    for (int64_t dim = 0; dim < width; dim += 64, ++part) {
      const int64_t begin = lines * part / parts, end = lines * (part + 1) / parts;
      const Lines ahead =
          lines == 0
              ? Lines{}
              : Lines{.token = begin / row_lines, .line = begin % row_lines * 64, .n = end - begin};
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
