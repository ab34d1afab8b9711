// The body for pages of 8-bit floats where pairs of bf16 are multiplied: codes become bf16 in
// registers, on their way from the page into the products, and nothing is laid out in between.
//
// The two bytes of a bf16 come from two tables of 128, 64 codes at a time (VBMI), and are unpacked
// within 128 bits. What that does to the order of dims, q and State.out are packed for.

#include <bit>

#include "kernels/attention/attention.h"
#include "kernels/attention/tile.h"

#if defined(__x86_64__)
#include "kernels/attention/dots_avx512bf16-inl.h"

namespace ashlar {
namespace {

constexpr int64_t kLine = 64;       // bytes that memory sends at a time
constexpr int64_t kChunk = 64;      // dims that a vector of codes holds
constexpr int64_t kKeptGroups = 4;  // groups of tokens that all quads see before the next ones

int64_t chunked(int64_t dim) { return (dim + kChunk - 1) / kChunk * kChunk; }

// The bytes of the bf16 numbers that the 128 magnitudes of an 8-bit float are. Subnormals are
// normal numbers there (the products would flush subnormal ones); NaN stays NaN.
struct F8Table {
  alignas(64) uint8_t high[128];
  alignas(64) uint8_t low[128];
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
    table.high[code] = static_cast<uint8_t>(bits >> 24);
    table.low[code] = static_cast<uint8_t>(bits >> 16);
  }
  return table;
}

constexpr F8Table kE4M3 = make_table(F8E4M3::kFormat);
constexpr F8Table kE5M2 = make_table(F8E5M2::kFormat);

// A table in registers.
struct Widener {
  __m512i high[2];
  __m512i low[2];
};

ASHLAR_INLINE Widener widener(const BlockWork& w) {
  const F8Table& table = w.dtype == DType::f8e5m2 ? kE5M2 : kE4M3;
  Widener by;
  ASHLAR_UNROLL
  for (int i = 0; i < 2; ++i) {
    by.high[i] = _mm512_load_si512(table.high + i * 64);
    by.low[i] = _mm512_load_si512(table.low + i * 64);
  }
  return by;
}

// 64 codes to bf16, of each 128 bits the first eight to `first`, the others to `second`.
ASHLAR_INLINE void widen(const Widener& by, __m512i codes, __m512i& first, __m512i& second) {
  const __m512i low = _mm512_permutex2var_epi8(by.low[0], codes, by.low[1]);
  const __m512i magnitude = _mm512_permutex2var_epi8(by.high[0], codes, by.high[1]);
  constexpr int kFirstOrBothOthers = 0xF8;
  const __m512i high =
      _mm512_ternarylogic_epi32(magnitude, codes, _mm512_set1_epi8(-128), kFirstOrBothOthers);
  first = _mm512_unpacklo_epi8(low, high);
  second = _mm512_unpackhi_epi8(low, high);
}

// A mask of the first n of 64 lanes; n may lie outside of them.
uint64_t first_lanes(int64_t n) {
  if (n <= 0) return 0;
  return n >= 64 ? ~uint64_t{0} : (uint64_t{1} << n) - 1;
}

// A chunk, or what lies of it before a row's end: then zeros.
ASHLAR_INLINE __m512i codes(const std::byte* at, bool whole, __mmask64 mask) {
  return whole ? _mm512_loadu_si512(at) : _mm512_maskz_loadu_epi8(mask, at);
}

// q: [rows][chunked k] bf16, of a chunk the eights 0, 2, 4, 6, 1, 3, 5, 7: as widen() leaves K.
ASHLAR_TARGET void pack(BlockWork& w) {
  const int64_t width = chunked(w.k_dim), n_rows = w.n_quads * kQuad;
  for (int64_t r = 0; r < n_rows; ++r) {
    const float* from = w.q_rows[r];
    // A prefill's queries come from memory, a few kilobytes per head.
    const float* ahead = w.q_rows[r + 12 < n_rows ? r + 12 : r];
    std::byte* to = w.q + r * width * 2;
    for (int64_t k = 0; k < width; k += 8) {
      if (k % 16 == 0) __builtin_prefetch(ahead + k, 0, 3);
      const int64_t eight = k / 8 % 8;
      const int64_t place = k / kChunk * 8 + eight / 2 + eight % 2 * 4;
      const auto mask = static_cast<__mmask8>(first_lanes(w.k_dim - k));
      _mm_store_si128(reinterpret_cast<__m128i*>(to + place * 16), round8(from + k, mask));
    }
  }
}

void load(BlockWork&) {}  // the other steps read pages

// Sums [token][row] of a group and a quad; a lane sums products of pairs of dims.
using Sums = __m512[kQuad][kQuad];

ASHLAR_INLINE void clear(Sums& sums) {
  ASHLAR_UNROLL
  for (int t = 0; t < kQuad; ++t) {
    ASHLAR_UNROLL
    for (int r = 0; r < kQuad; ++r) sums[t][r] = _mm512_setzero_ps();
  }
}

// 32 dims of four tokens against four rows of q.
ASHLAR_INLINE void multiply(Sums& sums, const __m512i (&ks)[kQuad], const std::byte* q,
                            int64_t q_bytes) {
  ASHLAR_UNROLL
  for (int r = 0; r < kQuad; ++r) {
    const __m512i qs = _mm512_load_si512(q + r * q_bytes);
    ASHLAR_UNROLL
    for (int t = 0; t < kQuad; ++t) sums[t][r] = dot(sums[t][r], ks[t], qs);
  }
}

// Two vectors' 128-bit parts added up in pairs: half as many of each.
ASHLAR_INLINE __m512 add_parts(__m512 a, __m512 b) {
  constexpr int kEven = 0x88, kOdd = 0xDD;
  return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, kEven), _mm512_shuffle_f32x4(a, b, kOdd));
}

// Lanes (row, token). Unpacking comes first: it has ports of its own, shuffles take the products'.
ASHLAR_INLINE __m512 cell_of(const Sums& sums) {
  __m512 rows[kQuad];
  ASHLAR_UNROLL
  for (int r = 0; r < kQuad; ++r) {
    rows[r] = sum_partials(sums[0][r], sums[1][r], sums[2][r], sums[3][r]);
  }
  return add_parts(add_parts(rows[0], rows[1]), add_parts(rows[2], rows[3]));
}

// What the scores of a quad of rows against a group of tokens need.
struct Cell {
  const std::byte* k[kQuad];
  const std::byte* q;
  int64_t q_bytes;  // of a row
};

// A chunk at dim k of four rows of codes; `keep`, if not null, gets their bf16, q_bytes apart.
ASHLAR_INLINE void score_chunk(Sums& sums, const Widener& by, const Cell& cell, int64_t k,
                               bool whole, __mmask64 mask, std::byte* keep) {
  __m512i first[kQuad], second[kQuad];
  ASHLAR_UNROLL
  for (int t = 0; t < kQuad; ++t) {
    widen(by, codes(cell.k[t] + k, whole, mask), first[t], second[t]);
  }
  if (keep) {
    ASHLAR_UNROLL
    for (int t = 0; t < kQuad; ++t) {
      _mm512_store_si512(keep + t * cell.q_bytes + k * 2, first[t]);
      _mm512_store_si512(keep + t * cell.q_bytes + k * 2 + 64, second[t]);
    }
  }
  multiply(sums, first, cell.q + k * 2, cell.q_bytes);
  multiply(sums, second, cell.q + k * 2 + 64, cell.q_bytes);
}

// Asks for n lines, one behind the other: mostly a group's rows lie so.
ASHLAR_INLINE void ask(const std::byte* next, int64_t n) {
  for (int64_t i = 0; i < n; ++i) __builtin_prefetch(next + i * kLine, 0, 3);
}

// The first quad's scores of a group, straight from the page. Spreads requests for the next tile's
// same tokens over the products: the core can wait for a few dozen lines, and more at once would
// stall the loads.
ASHLAR_INLINE __m512 score_codes(const BlockWork& w, const Widener& by, int64_t group,
                                 std::byte* keep) {
  const std::byte* const* rows = w.tile->k + group * kQuad;
  const Cell cell{{rows[0], rows[1], rows[2], rows[3]}, w.q, chunked(w.k_dim) * 2};
  const std::byte* next = w.next->k[group * kQuad];
  const int64_t n = w.k_dim, n_whole = n / kChunk * kChunk;
  Sums sums;
  clear(sums);
  for (int64_t k = 0; k < n_whole; k += kChunk, next += kQuad * kLine) {
    ask(next, kQuad);
    score_chunk(sums, by, cell, k, true, 0, keep);
  }
  if (n_whole < n) {
    ask(next, (n - n_whole) * kQuad / kLine);
    score_chunk(sums, by, cell, n_whole, false, first_lanes(n - n_whole), keep);
  }
  return cell_of(sums);
}

// Another quad's scores, from bf16 that the first has kept: the same sums.
ASHLAR_INLINE __m512 score_kept(const Cell& cell) {
  Sums sums;
  clear(sums);
  for (int64_t at = 0; at < cell.q_bytes; at += 64) {
    __m512i ks[kQuad];
    ASHLAR_UNROLL
    for (int t = 0; t < kQuad; ++t) ks[t] = _mm512_load_si512(cell.k[t] + at);
    multiply(sums, ks, cell.q + at, cell.q_bytes);
  }
  return cell_of(sums);
}

// k_tile: [kKeptGroups][4 tokens][chunked k] bf16, if there are quads after the first.
ASHLAR_TARGET void scores(BlockWork& w) {
  const Widener by = widener(w);
  const int64_t row_bytes = chunked(w.k_dim) * 2, group_bytes = kQuad * row_bytes;
  const int64_t last = w.tile->group_end;
  for (int64_t begin = w.tile->group_begin; begin < last; begin += kKeptGroups) {
    const int64_t end = begin + kKeptGroups < last ? begin + kKeptGroups : last;
    for (int64_t group = begin; group < end; ++group) {
      std::byte* keep = w.n_quads > 1 ? w.k_tile + (group - begin) * group_bytes : nullptr;
      _mm512_store_ps(w.scores + group * kCell, score_codes(w, by, group, keep));
    }
    for (int64_t quad = 1; quad < w.n_quads; ++quad) {
      for (int64_t group = begin; group < end; ++group) {
        const std::byte* k = w.k_tile + (group - begin) * group_bytes;
        const Cell cell{{k, k + row_bytes, k + 2 * row_bytes, k + 3 * row_bytes},
                        w.q + quad * group_bytes,
                        row_bytes};
        _mm512_store_ps(w.scores + (quad * kTileGroups + group) * kCell, score_kept(cell));
      }
    }
  }
}

// A chunk at `dim` of two tokens as pairs, in the order of the bf16 body: each 32 dims in two
// vectors, dims 0-3, 8-11, 16-19, 24-27 in the first and the others in the second.
template <int kVectors>
ASHLAR_INLINE void widen_pair(const Widener& by, const std::byte* even, const std::byte* odd,
                              bool whole, __mmask64 mask, __m512i (&vs)[kVectors]) {
  const __m512i eights = _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);
  const __m512i a = _mm512_permutexvar_epi64(eights, codes(even, whole, mask));
  const __m512i b = _mm512_permutexvar_epi64(eights, codes(odd, whole, mask));
  widen(by, _mm512_unpacklo_epi8(a, b), vs[0], vs[1]);
  if constexpr (kVectors == 4) widen(by, _mm512_unpackhi_epi8(a, b), vs[2], vs[3]);
}

// Some dims of V for all of a tile's tokens, and what of the next tile's is asked for meanwhile: of
// each group the lines [ahead_begin, ahead_end).
struct Part {
  int64_t quad;
  int64_t dim;
  int64_t ahead_begin;
  int64_t ahead_end;
};

// out = out * alpha + p V for one quad of rows and 16 * kVectors of V's dims. The first quad widens
// and keeps, v_tile: [pairs][vectors], the others (kKept) take those.
template <int kVectors, bool kKept, bool kWhole>
ASHLAR_TARGET void weigh_part(const BlockWork& w, Part part) {
  const Widener by = widener(w);
  const __mmask64 mask = first_lanes(w.v_dim - part.dim);
  const int64_t width = padded(w.v_dim), first = w.tile->group_begin, last = w.tile->group_end;
  const std::byte* const* rows = w.tile->v;
  const bool keep = w.n_quads > 1;
  float* out = w.state.out + part.quad * kQuad * width + part.dim;
  const float* alpha = w.alpha + part.quad * kCell;
  __m512 sums[kQuad][kVectors];
  ASHLAR_UNROLL
  for (int r = 0; r < kQuad; ++r) {
    const __m512 factor = _mm512_set1_ps(alpha[r * kQuad]);
    ASHLAR_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      sums[r][v] = _mm512_mul_ps(_mm512_load_ps(out + r * width + v * 16), factor);
    }
  }
  const auto* p = reinterpret_cast<const int32_t*>(w.p) + part.quad * kTileGroups * kCell / 2;
  std::byte* kept = w.v_tile + first * 2 * kVectors * 64;
  for (int64_t g = first; g < last; ++g) {
    ask(w.next->v[g * kQuad] + part.ahead_begin * kLine, part.ahead_end - part.ahead_begin);
    for (int64_t pair = 0; pair < 2; ++pair, kept += kVectors * 64) {
      __m512i vs[kVectors];
      if constexpr (!kKept) {
        const std::byte* const* two = rows + g * kQuad + pair * 2;
        widen_pair(by, two[0] + part.dim, two[1] + part.dim, kWhole, mask, vs);
      }
      ASHLAR_UNROLL
      for (int v = 0; v < kVectors; ++v) {
        if constexpr (kKept) vs[v] = _mm512_load_si512(kept + v * 64);
        if (!kKept && keep) _mm512_store_si512(kept + v * 64, vs[v]);
      }
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

// All quads of some dims before the next dims, so that the kept ones stay close.
template <int kVectors, bool kWhole>
ASHLAR_INLINE void weigh_dims(const BlockWork& w, int64_t dim) {
  const int64_t lines = (kQuad * w.v_bytes + kLine - 1) / kLine;
  const int64_t parts = w.n_quads * (chunked(w.v_dim) / kChunk);
  int64_t part = dim / kChunk * w.n_quads;
  for (int64_t quad = 0; quad < w.n_quads; ++quad, ++part) {
    const Part what{quad, dim, lines * part / parts, lines * (part + 1) / parts};
    if (quad == 0) {
      weigh_part<kVectors, false, kWhole>(w, what);
    } else {
      weigh_part<kVectors, true, kWhole>(w, what);
    }
  }
}

ASHLAR_TARGET void weigh(BlockWork& w) {
  for (int64_t quad = 0; quad < w.n_quads; ++quad) round_probabilities(w, quad);
  int64_t dim = 0;
  for (; dim + kChunk <= w.v_dim; dim += kChunk) weigh_dims<4, true>(w, dim);
  if (dim + kChunk <= padded(w.v_dim)) return weigh_dims<4, false>(w, dim);
  if (dim < w.v_dim) weigh_dims<2, false>(w, dim);
}

}  // namespace

TileBody with_f8_products(TileBody body) {
  body = with_bf16_products(body);
  body.pack = pack;
  body.load = load;
  body.scores = scores;
  body.weigh = weigh;
  return body;
}

}  // namespace ashlar

#else

namespace ashlar {
TileBody with_f8_products(TileBody body) { return body; }
}  // namespace ashlar

#endif
