#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention/attention_cpu.cc"
#include "kernels/cpu_targets.h"
// After cpu_targets.h, which trims the list of targets.
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

#include "kernels/attention/attention-inl.h"
#include "kernels/attention/attention.h"
#include "kernels/attention/tile.h"

HWY_BEFORE_NAMESPACE();
namespace ashlar::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET == HWY_SCALAR
const TileBody& Body() { return tile_body_plain(); }
#else

using F32 = hn::ScalableTag<float>;
using VF = hn::Vec<F32>;
constexpr int64_t kLanes =
    HWY_MAX_BYTES / sizeof(float) < kCell ? HWY_MAX_BYTES / sizeof(float) : kCell;
// A cell is this many vectors; a vector holds whole rows of four.
constexpr int64_t kVectorsPerCell = kCell / kLanes;
// Register blocks: 32 registers hold 4 x 4 sums, 16 hold 2 x 4.
constexpr int kBlock = kLanes == 16 ? 4 : 2;

// q: [quads][padded k / 4][4 rows][4 dims] floats.
void Pack(BlockWork& w) {
  const F32 d;
  auto* q = reinterpret_cast<float*>(w.q);
  const int64_t width = padded(w.k_dim);
  alignas(64) float row[kCell];
  for (int64_t r = 0; r < w.n_quads * kQuad; ++r) {
    float* to = q + (r / kQuad) * kQuad * width + (r % kQuad) * kQuad;
    for (int64_t k = 0; k < width; k += kCell) {
      const int64_t n = std::min<int64_t>(kCell, w.k_dim - k);
      for (int64_t i = 0; i < kCell; ++i) row[i] = i < n ? w.q_rows[r][k + i] : 0.0f;
      for (int64_t i = 0; w.round_q && i < kCell; i += kLanes) {
        hn::StoreU(RoundToBf16(d, hn::LoadU(d, row + i)), d, row + i);
      }
      for (int64_t i = 0; i < kCell; ++i) to[(k + i) / kQuad * kCell + i % kQuad] = row[i];
    }
  }
}

template <class T>
void LoadRows(const Tile& tile, const std::byte* const* rows, int64_t width, float* to) {
  for (int64_t i = tile.group_begin * kQuad; i < tile.group_end * kQuad; ++i) {
    WidenRow(reinterpret_cast<const T*>(rows[i]), width, padded(width), to + i * padded(width));
  }
}

// k_tile [tokens][padded k], v_tile [tokens][padded v], floats.
void Load(BlockWork& w) {
  auto* k = reinterpret_cast<float*>(w.k_tile);
  auto* v = reinterpret_cast<float*>(w.v_tile);
  const auto load = [&](const std::byte* const* rows, int64_t width, float* to) {
    if (w.dtype == DType::f32) return LoadRows<float>(*w.tile, rows, width, to);
    if (w.dtype == DType::bf16) return LoadRows<Bf16>(*w.tile, rows, width, to);
    if (w.dtype == DType::f8e4m3) return LoadRows<F8E4M3>(*w.tile, rows, width, to);
    if (w.dtype == DType::f8e5m2) return LoadRows<F8E5M2>(*w.tile, rows, width, to);
    return LoadRows<F16>(*w.tile, rows, width, to);
  };
  load(w.tile->k, w.k_dim, k);
  load(w.tile->v, w.v_dim, v);
}

// The four partial sums of four tokens become four tokens' scores: lanes (row, partial) of
// sums[token] to lanes (row, token).
HWY_INLINE VF SumPartials(const VF* sums) {
  const F32 d;
  const hn::RepartitionToWide<hn::RebindToUnsigned<F32> > d64;
  const auto wide = [&](VF v) HWY_ATTR { return hn::BitCast(d64, v); };
  const VF s01 =
      hn::Add(hn::InterleaveLower(d, sums[0], sums[1]), hn::InterleaveUpper(d, sums[0], sums[1]));
  const VF s23 =
      hn::Add(hn::InterleaveLower(d, sums[2], sums[3]), hn::InterleaveUpper(d, sums[2], sums[3]));
  return hn::Add(hn::BitCast(d, hn::InterleaveLower(d64, wide(s01), wide(s23))),
                 hn::BitCast(d, hn::InterleaveUpper(d64, wide(s01), wide(s23))));
}

// Scores of n_vectors vectors of query rows, from vector `first`, against one group of tokens.
template <int kVectors>
HWY_INLINE void ScoreGroup(const BlockWork& w, int64_t first, int64_t group) {
  const F32 d;
  const int64_t width = padded(w.k_dim);
  const float* q[kVectors];
  for (int v = 0; v < kVectors; ++v) {
    q[v] = reinterpret_cast<const float*>(w.q) + (first + v) / kVectorsPerCell * kQuad * width +
           (first + v) % kVectorsPerCell * kLanes;
  }
  const float* k = reinterpret_cast<const float*>(w.k_tile) + group * kQuad * width;
  VF sums[kVectors][kQuad];
  for (int v = 0; v < kVectors; ++v) {
    for (int t = 0; t < kQuad; ++t) sums[v][t] = hn::Zero(d);
  }
  for (int64_t i = 0; i < w.k_dim; i += kQuad) {
    VF qs[kVectors];
    for (int v = 0; v < kVectors; ++v) qs[v] = hn::LoadU(d, q[v] + i * kQuad);
    for (int t = 0; t < kQuad; ++t) {
      const VF ks = hn::LoadDup128(d, k + t * width + i);
      for (int v = 0; v < kVectors; ++v) sums[v][t] = hn::MulAdd(ks, qs[v], sums[v][t]);
    }
  }
  for (int v = 0; v < kVectors; ++v) {
    const int64_t cell = (first + v) / kVectorsPerCell * kTileGroups + group;
    hn::StoreU(SumPartials(sums[v]), d,
               w.scores + cell * kCell + (first + v) % kVectorsPerCell * kLanes);
  }
}

template <int kVectors>
HWY_INLINE void ScoreTile(const BlockWork& w, int64_t first) {
  for (int64_t g = w.tile->group_begin; g < w.tile->group_end; ++g) {
    // The first pass over the tile asks for the next one.
    if (first == 0) prefetch(*w.next, g, g + 1, w.k_bytes, w.v_bytes);
    ScoreGroup<kVectors>(w, first, g);
  }
}

void Scores(BlockWork& w) {
  const int64_t n_vectors = w.n_quads * kVectorsPerCell;
  int64_t first = 0;
  for (; first + kBlock <= n_vectors; first += kBlock) ScoreTile<kBlock>(w, first);
  for (; first < n_vectors; ++first) ScoreTile<1>(w, first);
}

void Scale(BlockWork& w, const float* factors) {
  const F32 d;
  for (int64_t quad = 0; quad < w.n_quads; ++quad) {
    for (int64_t g = w.tile->group_begin; g < w.tile->group_end; ++g) {
      float* cell = w.scores + (quad * kTileGroups + g) * kCell;
      const VF tokens = hn::LoadDup128(d, factors + g * kQuad);
      for (int64_t i = 0; i < kCell; i += kLanes) {
        hn::StoreU(hn::Mul(hn::LoadU(d, cell + i), tokens), d, cell + i);
      }
    }
  }
}

// The maximum of each row's four lanes, in all four.
HWY_INLINE VF MaxOfQuad(VF v) {
  v = hn::Max(v, hn::Shuffle1032(v));
  return hn::Max(v, hn::Shuffle2301(v));
}

// Scores in units of log 2, capped and masked; returns each lane's maximum.
template <bool kSoftcap, bool kMasked>
HWY_INLINE VF Finish(const BlockWork& w, int64_t at, float* scores) {
  const F32 d;
  const hn::RebindToSigned<F32> di;
  const VF inner = hn::Set(d, kSoftcap ? w.scale / w.softcap : w.scale * kLog2E);
  const VF outer = hn::Set(d, w.softcap * kLog2E);
  const VF nothing = hn::Set(d, -std::numeric_limits<float>::infinity());
  const auto begin = hn::LoadU(di, w.visible_begin + at);
  const auto end = hn::LoadU(di, w.visible_end + at);
  const auto token = hn::And(hn::Iota(di, 0), hn::Set(di, kQuad - 1));
  VF max = nothing;
  for (int32_t g = w.tile->group_begin; g < w.tile->group_end; ++g) {
    VF s = hn::Mul(hn::LoadU(d, scores + g * kCell), inner);
    if constexpr (kSoftcap) s = hn::Mul(Tanh(d, s), outer);
    if constexpr (kMasked) {
      const auto j = hn::Add(token, hn::Set(di, w.tile->position + g * kQuad));
      const auto seen =
          hn::AndNot(hn::VecFromMask(di, hn::Lt(j, begin)), hn::VecFromMask(di, hn::Lt(j, end)));
      s = hn::IfThenElse(hn::MaskFromVec(hn::BitCast(d, seen)), s, nothing);
    }
    hn::StoreU(s, d, scores + g * kCell);
    max = hn::Max(s, max);
  }
  return max;
}

// max and alpha after a tile (or a state) whose maximum is `next`. Nothing seen at all counts as a
// maximum of zero, so that -inf - max stays -inf.
HWY_INLINE VF NewMax(VF old, VF next, VF* alpha) {
  const F32 d;
  const VF nothing = hn::Set(d, -std::numeric_limits<float>::infinity());
  const VF max = hn::Max(old, next);
  const VF base = hn::IfThenElse(hn::Eq(max, nothing), hn::Zero(d), max);
  *alpha = Exp2(d, hn::Sub(old, base));
  return base;
}

void Softmax(BlockWork& w) {
  const F32 d;
  for (int64_t quad = 0; quad < w.n_quads; ++quad) {
    for (int64_t i = 0; i < kCell; i += kLanes) {
      const int64_t at = quad * kCell + i;
      float* scores = w.scores + quad * kTileGroups * kCell + i;
      const bool capped = w.softcap != 0.0f, masked = w.tile->masked;
      const VF next =
          capped
              ? (masked ? Finish<true, true>(w, at, scores) : Finish<true, false>(w, at, scores))
              : (masked ? Finish<false, true>(w, at, scores) : Finish<false, false>(w, at, scores));
      const VF old = hn::LoadU(d, w.state.max + at);
      const VF tile_max = MaxOfQuad(next);
      VF alpha;
      const VF base = NewMax(old, tile_max, &alpha);
      VF sum = hn::Mul(hn::LoadU(d, w.state.sum + at), alpha);
      for (int32_t g = w.tile->group_begin; g < w.tile->group_end; ++g) {
        const VF p = Exp2(d, hn::Sub(hn::LoadU(d, scores + g * kCell), base));
        hn::StoreU(p, d, scores + g * kCell);
        sum = hn::Add(sum, p);
      }
      hn::StoreU(hn::Max(old, tile_max), d, w.state.max + at);
      hn::StoreU(sum, d, w.state.sum + at);
      hn::StoreU(alpha, d, w.alpha + at);
    }
  }
}

// out = out * alpha + p V for one quad of rows and kVectors vectors of V's width from `dim`.
template <int kVectors>
HWY_INLINE void WeighPart(const BlockWork& w, int64_t quad, int64_t half, int64_t dim) {
  const F32 d;
  // Sixteen registers hold two rows' sums at a time, thirty-two all four.
  constexpr int kRows = kBlock;
  const int64_t width = padded(w.v_dim);
  float* out = w.state.out + (quad * kQuad + half) * width + dim;
  const float* alpha = w.alpha + quad * kCell + half * kQuad;
  VF sums[kRows][kVectors];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) {
      sums[r][v] = hn::Mul(hn::LoadU(d, out + r * width + v * kLanes), hn::Set(d, alpha[r * 4]));
    }
  }
  for (int64_t g = w.tile->group_begin; g < w.tile->group_end; ++g) {
    const float* p = w.scores + (quad * kTileGroups + g) * kCell + half * kQuad;
    const float* v_row = reinterpret_cast<const float*>(w.v_tile) + g * kQuad * width + dim;
    for (int t = 0; t < kQuad; ++t, v_row += width) {
      VF vs[kVectors];
      for (int v = 0; v < kVectors; ++v) vs[v] = hn::LoadU(d, v_row + v * kLanes);
      for (int r = 0; r < kRows; ++r) {
        const VF ps = hn::Set(d, p[r * kQuad + t]);
        for (int v = 0; v < kVectors; ++v) sums[r][v] = hn::MulAdd(ps, vs[v], sums[r][v]);
      }
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) hn::StoreU(sums[r][v], d, out + r * width + v * kLanes);
  }
}

void Weigh(BlockWork& w) {
  constexpr int kVectors = kBlock == 4 ? 4 : 3;
  const int64_t width = padded(w.v_dim);
  for (int64_t quad = 0; quad < w.n_quads; ++quad) {
    for (int64_t half = 0; half < kQuad; half += kBlock) {
      int64_t dim = 0;
      for (; dim + kVectors * kLanes <= width; dim += kVectors * kLanes) {
        WeighPart<kVectors>(w, quad, half, dim);
      }
      for (; dim < width; dim += kLanes) WeighPart<1>(w, quad, half, dim);
    }
  }
}

void Merge(const BlockWork& w, const State& into, const State& from) {
  const F32 d;
  const int64_t width = padded(w.v_dim);
  for (int64_t i = 0; i < w.n_quads * kCell; i += kLanes) {
    const VF old = hn::LoadU(d, into.max + i);
    const VF next = hn::LoadU(d, from.max + i);
    VF old_factor, next_factor;
    const VF base = NewMax(old, next, &old_factor);
    next_factor = Exp2(d, hn::Sub(next, base));
    hn::StoreU(hn::Max(old, next), d, into.max + i);
    const VF sum = hn::Mul(hn::LoadU(d, into.sum + i), old_factor);
    hn::StoreU(hn::MulAdd(hn::LoadU(d, from.sum + i), next_factor, sum), d, into.sum + i);
    alignas(64) float factors[2][kLanes];
    hn::StoreU(old_factor, d, factors[0]);
    hn::StoreU(next_factor, d, factors[1]);
    for (int64_t row = i / kQuad; row < (i + kLanes) / kQuad; ++row) {
      const VF a = hn::Set(d, factors[0][row * kQuad - i]);
      const VF b = hn::Set(d, factors[1][row * kQuad - i]);
      for (int64_t v = row * width; v < (row + 1) * width; v += kLanes) {
        const VF out = hn::Mul(hn::LoadU(d, into.out + v), a);
        hn::StoreU(hn::MulAdd(hn::LoadU(d, from.out + v), b, out), d, into.out + v);
      }
    }
  }
}

void Store(const BlockWork& w, const State& state) {
  const F32 d;
  const int64_t width = padded(w.v_dim);
  for (int64_t r = 0; r < w.n_rows; ++r) {
    const float* parts = state.sum + r * kQuad;
    const VF sum = hn::Set(d, (parts[0] + parts[1]) + (parts[2] + parts[3]));
    const VF sink = hn::Set(d, w.sinks[r] * kLog2E);
    VF factor;
    const VF base = NewMax(hn::Set(d, state.max[r * kQuad]), sink, &factor);
    const VF total = hn::MulAdd(sum, factor, Exp2(d, hn::Sub(sink, base)));
    const VF scale = hn::Mul(hn::Div(factor, total), hn::Set(d, w.v_scale));
    const float* from = state.out + r * width;
    float* to = w.out_rows[r];
    int64_t i = 0;
    for (; i + kLanes <= w.v_dim; i += kLanes) {
      hn::StoreU(hn::Mul(hn::LoadU(d, from + i), scale), d, to + i);
    }
    const float last = hn::GetLane(scale);
    for (; i < w.v_dim; ++i) to[i] = from[i] * last;
  }
}

constexpr TileBody kBody = {.pack = Pack,
                            .load = Load,
                            .scores = Scores,
                            .scale = Scale,
                            .softmax = Softmax,
                            .weigh = Weigh,
                            .merge = Merge,
                            .store = Store};

const TileBody& Body() { return kBody; }

#endif  // HWY_TARGET != HWY_SCALAR

void Attention(const AttnPlan& plan, const AttnParams& params, Pool& pool) {
  attend(plan, params, Body(), pool);
}

}  // namespace ashlar::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ashlar {
namespace {

ASHLAR_PER_ISA(highway_body, Body)
ASHLAR_PER_ISA(highway_attention, Attention)

void attention_bf16(const AttnPlan& plan, const AttnParams& params, Pool& pool) {
  const TileBody& body = tile_body(Isa::avx512);
  if (params.compute != DType::bf16) return attend(plan, params, body, pool);
  const bool f8 = is_f8(params.kv.dtype);
  attend(plan, params, f8 ? with_f8_products(body) : with_bf16_products(body), pool);
}

}  // namespace

const TileBody& tile_body(Isa isa) { return highway_body(isa)(); }

AttentionFn attention_cpu(Isa isa) {
  if (isa == Isa::avx512_bf16) return attention_bf16;
  return highway_attention(isa);
}

}  // namespace ashlar
#endif
