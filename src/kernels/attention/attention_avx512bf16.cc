// The body for machines that multiply pairs of bf16: scores and weighted sums by VDPBF16PS,
// straight from bf16 pages. Softmax, merge and store are the Highway ones.
//
// Instruction sets are function attributes, and nothing of the standard library is called from such
// functions: an inline function compiled here would be linked into code that runs everywhere.

#include "kernels/attention/attention.h"
#include "kernels/attention/tile.h"

#if defined(__x86_64__)
#include <immintrin.h>

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

// q: [quads][padded k / 8][4 rows][8 dims] bf16.
ASHLAR_TARGET void pack(BlockWork& w) {
  const int64_t width = padded(w.k_dim);
  for (int64_t quad = 0; quad < w.n_quads; ++quad) {
    const float* const* rows = w.q_rows + quad * kQuad;
    std::byte* to = w.q + quad * kQuad * width * 2;
    for (int64_t k = 0; k < width; k += kPack, to += 64) {
      const int64_t left = w.k_dim - k;
      const auto mask =
          static_cast<__mmask8>(left >= kPack ? 0xFF : (1 << (left > 0 ? left : 0)) - 1);
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
      const int64_t left = w.k_dim - k;
      const auto mask = static_cast<__mmask16>(left >= 16 ? 0xFFFF : (1 << left) - 1);
      _mm256_store_si256(reinterpret_cast<__m256i*>(w.k_tile + (i * width + k) * 2),
                         _mm256_maskz_loadu_epi16(mask, w.tile->k[i] + k * 2));
    }
  }
}

// v_tile: [pairs of tokens][padded v][2] bf16.
ASHLAR_TARGET void load(BlockWork& w) {
  if (w.k_dim % kPack != 0) pad_k(w);
  alignas(64) uint16_t order[2][32];
  for (uint16_t i = 0; i < 16; ++i) {
    for (uint16_t half = 0; half < 2; ++half) {
      order[half][2 * i] = static_cast<uint16_t>(16 * half + i);
      order[half][2 * i + 1] = static_cast<uint16_t>(32 + 16 * half + i);
    }
  }
  const __m512i low = _mm512_load_si512(order[0]), high = _mm512_load_si512(order[1]);
  const int64_t width = padded(w.v_dim);
  for (int64_t pair = w.tile->group_begin * 2; pair < w.tile->group_end * 2; ++pair) {
    const std::byte* even = w.tile->v[2 * pair];
    const std::byte* odd = w.tile->v[2 * pair + 1];
    std::byte* to = w.v_tile + pair * width * 4;
    for (int64_t dim = 0; dim < width; dim += 32) {
      const int64_t left = w.v_dim - dim;
      const __mmask32 mask = left >= 32 ? ~0u : (1u << left) - 1;
      const __m512i a = _mm512_maskz_loadu_epi16(mask, even + dim * 2);
      const __m512i b = _mm512_maskz_loadu_epi16(mask, odd + dim * 2);
      _mm512_store_si512(to + dim * 4, _mm512_permutex2var_epi16(a, low, b));
      if (dim + 16 < width) {
        _mm512_store_si512(to + dim * 4 + 64, _mm512_permutex2var_epi16(a, high, b));
      }
    }
  }
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
// kAhead spreads requests for the next tile's same tokens over the products, one line or two at a
// time: the core can wait for a few dozen lines, and more at once would stall the loads.
template <int kQuads, int kGroups, bool kAhead>
ASHLAR_TARGET void score(const BlockWork& w, int64_t quad, int64_t group) {
  constexpr int kTokens = kGroups * kQuad;
  const int64_t quad_bytes = kQuad * padded(w.k_dim) * 2;
  const std::byte* q = w.q + quad * quad_bytes;
  const std::byte* k[kTokens];
  for (int t = 0; t < kTokens; ++t) k[t] = k_row(w, group * kQuad + t);
  const std::byte* const* next_k = w.next->k + group * kQuad;
  const std::byte* const* next_v = w.next->v + group * kQuad;
  __m512 sums[kTokens][kQuads];
  for (int t = 0; t < kTokens; ++t) {
    for (int n = 0; n < kQuads; ++n) sums[t][n] = _mm512_setzero_ps();
  }
  for (int64_t at = 0; at < w.k_dim * 2; at += kPack * 2, q += 64) {
    if constexpr (kAhead) {
      // Four steps pass over one line of K; they serve the four tokens of a group in turn.
      const int64_t line = at / 64 * 64, token = at / 16 % kQuad;
      for (int g = 0; g < kGroups; ++g) {
        __builtin_prefetch(next_k[g * kQuad + token] + line, 0, 3);
        if (line < w.v_dim * 2) __builtin_prefetch(next_v[g * kQuad + token] + line, 0, 3);
      }
    }
    __m512i qs[kQuads];
    for (int n = 0; n < kQuads; ++n) qs[n] = _mm512_load_si512(q + n * quad_bytes);
    for (int t = 0; t < kTokens; ++t) {
      const __m512i ks =
          _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(k[t] + at)));
      for (int n = 0; n < kQuads; ++n) sums[t][n] = dot(sums[t][n], ks, qs[n]);
    }
  }
  for (int g = 0; g < kGroups; ++g) {
    for (int n = 0; n < kQuads; ++n) {
      _mm512_store_ps(w.scores + ((quad + n) * kTileGroups + group + g) * kCell,
                      sum_partials(sums[g * kQuad][n], sums[g * kQuad + 1][n],
                                   sums[g * kQuad + 2][n], sums[g * kQuad + 3][n]));
    }
  }
}

template <int kQuads, int kGroups, bool kAhead>
ASHLAR_TARGET void score_quads(const BlockWork& w, int64_t quad) {
  int64_t group = w.tile->group_begin;
  for (; group + kGroups <= w.tile->group_end; group += kGroups) {
    score<kQuads, kGroups, kAhead>(w, quad, group);
  }
  for (; group < w.tile->group_end; ++group) score<kQuads, 1, kAhead>(w, quad, group);
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

// out = out * alpha + p V for one quad of rows and 16 * kVectors of V's dims from `dim`.
template <int kVectors>
ASHLAR_INLINE void weigh_part(const BlockWork& w, int64_t quad, int64_t dim) {
  const int64_t width = padded(w.v_dim);
  float* out = w.state.out + quad * kQuad * width + dim;
  const float* alpha = w.alpha + quad * kCell;
  __m512 sums[kQuad][kVectors];
  for (int r = 0; r < kQuad; ++r) {
    const __m512 factor = _mm512_set1_ps(alpha[r * kQuad]);
    for (int v = 0; v < kVectors; ++v) {
      sums[r][v] = _mm512_mul_ps(_mm512_load_ps(out + r * width + v * 16), factor);
    }
  }
  const auto* p = reinterpret_cast<const int32_t*>(w.p) + quad * kTileGroups * kCell / 2;
  for (int64_t g = w.tile->group_begin; g < w.tile->group_end; ++g) {
    for (int pair = 0; pair < 2; ++pair) {
      const std::byte* v_pair = w.v_tile + ((g * 2 + pair) * width + dim) * 4;
      __m512i vs[kVectors];
      for (int v = 0; v < kVectors; ++v) vs[v] = _mm512_load_si512(v_pair + v * 64);
      for (int r = 0; r < kQuad; ++r) {
        const __m512i ps = _mm512_set1_epi32(p[g * kCell / 2 + r * 2 + pair]);
        for (int v = 0; v < kVectors; ++v) sums[r][v] = dot(sums[r][v], ps, vs[v]);
      }
    }
  }
  for (int r = 0; r < kQuad; ++r) {
    for (int v = 0; v < kVectors; ++v) _mm512_store_ps(out + r * width + v * 16, sums[r][v]);
  }
}

ASHLAR_TARGET void weigh(BlockWork& w) {
  const int64_t width = padded(w.v_dim);
  for (int64_t quad = 0; quad < w.n_quads; ++quad) {
    round_probabilities(w, quad);
    int64_t dim = 0;
    for (; dim + 64 <= width; dim += 64) weigh_part<4>(w, quad, dim);
    if (width - dim == 48) weigh_part<3>(w, quad, dim);
    if (width - dim == 32) weigh_part<2>(w, quad, dim);
    if (width - dim == 16) weigh_part<1>(w, quad, dim);
  }
}

}  // namespace

const TileBody* tile_body_avx512_bf16() {
  static const TileBody body = [] {
    TileBody made = tile_body(Isa::avx512);
    made.pack = pack;
    made.load = load;
    made.scores = scores;
    made.weigh = weigh;
    return made;
  }();
  return &body;
}

}  // namespace ashlar

#else

namespace ashlar {
const TileBody* tile_body_avx512_bf16() { return nullptr; }
}  // namespace ashlar

#endif
