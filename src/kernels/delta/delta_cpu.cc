#include "kernels/delta/delta.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/delta/delta_cpu.cc"
#include "kernels/cpu_targets.h"
// After cpu_targets.h, which trims the list of targets.
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/delta/partial-inl.h"

#include <algorithm>
#include <cmath>

HWY_BEFORE_NAMESPACE();
namespace ashlar::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

constexpr int32_t kTokens =
    16;                       // whose q and k are prepared together; they stay in the first cache
constexpr int64_t kRows = 4;  // of S, updated together
// Rows that take all the prepared tokens before the next ones do; they stay in the first cache. A
// row waits for its own last update, so several groups of kRows take turns.
constexpr int64_t kTileRows = 16;

// A token as one head sees it; q and k normalised, q scaled, both zero up to a whole vector. They
// are aligned, or every load of theirs would meet two cache lines: a fifth of prefill.
struct Token {
  HWY_ALIGN float q[kMaxDeltaKeyDim];
  HWY_ALIGN float k[kMaxDeltaKeyDim];
  const float* v;  // [value_dim]
  float* out;      // [value_dim]
  float decay;
  float beta;
  float kq;  // dot(k, q)
};

static_assert(kMaxDeltaKeyDim % hn::MaxLanes(hn::ScalableTag<float>()) == 0);

// What a row of q or of k is multiplied by.
float Factor(bool l2norm, float scale, float squares) {
  return l2norm ? scale / std::sqrt(squares + kL2NormEps) : scale;
}

// Fills the token's q, k and kq from the rows of its key head: one walk for the three sums, one
// that scales.
HWY_INLINE void Normalise(const float* HWY_RESTRICT q, const float* HWY_RESTRICT k, int64_t n,
                          bool l2norm, float scale, Token* HWY_RESTRICT token) {
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const int64_t whole = n / lanes * lanes;
  auto qq = hn::Zero(d), kk = qq, kq = qq;
  const auto add = [&](auto q1, auto k1) HWY_ATTR {
    qq = hn::MulAdd(q1, q1, qq), kk = hn::MulAdd(k1, k1, kk), kq = hn::MulAdd(k1, q1, kq);
  };
  for (int64_t i = 0; i < whole; i += lanes) add(hn::LoadU(d, q + i), hn::LoadU(d, k + i));
  if (whole < n) add(LoadFirst(d, q + whole, n - whole), LoadFirst(d, k + whole, n - whole));
  const float q_factor = Factor(l2norm, scale, hn::GetLane(hn::SumOfLanes(d, qq)));
  const float k_factor = Factor(l2norm, 1.0f, hn::GetLane(hn::SumOfLanes(d, kk)));
  token->kq = q_factor * (k_factor * hn::GetLane(hn::SumOfLanes(d, kq)));
  const auto put = [&](auto q1, auto k1, int64_t i) HWY_ATTR {
    hn::Store(hn::Mul(q1, hn::Set(d, q_factor)), d, token->q + i);
    hn::Store(hn::Mul(k1, hn::Set(d, k_factor)), d, token->k + i);
  };
  for (int64_t i = 0; i < whole; i += lanes) put(hn::LoadU(d, q + i), hn::LoadU(d, k + i), i);
  if (whole < n) {
    put(LoadFirst(d, q + whole, n - whole), LoadFirst(d, k + whole, n - whole), whole);
  }
}

// sums[i] is the sum of the lanes of the i-th vector.
#if HWY_TARGET == HWY_SCALAR
template <class D, class V = hn::Vec<D>>
HWY_INLINE void SumsOf4(D, V a, V b, V c, V e, float* sums) {
  sums[0] = hn::GetLane(a), sums[1] = hn::GetLane(b);
  sums[2] = hn::GetLane(c), sums[3] = hn::GetLane(e);
}
#else
// The sum of a vector's 128-bit blocks.
template <class D, class V = hn::Vec<D>>
HWY_INLINE auto SumOfBlocks(D d, V v) {
  if constexpr (hn::MaxLanes(d) <= 4) {
    return v;
  } else {
    const hn::Half<D> half;
    return SumOfBlocks(half, hn::Add(hn::LowerHalf(half, v), hn::UpperHalf(half, v)));
  }
}

template <class D, class V = hn::Vec<D>>
HWY_INLINE void SumsOf4(D d, V a, V b, V c, V e, float* sums) {
  const auto ac = hn::Add(hn::InterleaveLower(d, a, c), hn::InterleaveUpper(d, a, c));
  const auto be = hn::Add(hn::InterleaveLower(d, b, e), hn::InterleaveUpper(d, b, e));
  const auto all = hn::Add(hn::InterleaveLower(d, ac, be), hn::InterleaveUpper(d, ac, be));
  hn::Store(SumOfBlocks(d, all), hn::CappedTag<float, 4>(), sums);
}
#endif

// Some rows of S, n of kRows. Those that are not there stand for the last one again: what is
// computed of them is the same, and is stored to the same place.
struct Group {
  int64_t n;
  int64_t key_dim;
  int64_t rest;  // of a row, behind its whole vectors

  int64_t row(int64_t r) const { return std::min(r, n - 1); }
  int64_t at(int64_t r) const { return row(r) * key_dim; }
};

// Each row's dot(S, k) and dot(S, q), of the old S.
HWY_INLINE void Dots(const Token& token, const Group& g, const float* s, float* with_k,
                     float* with_q) {
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const int64_t whole = g.key_dim - g.rest, at1 = g.at(1), at2 = g.at(2), at3 = g.at(3);
  auto k0 = hn::Zero(d), k1 = k0, k2 = k0, k3 = k0;
  auto q0 = k0, q1 = k0, q2 = k0, q3 = k0;
  for (int64_t i = 0; i < whole; i += lanes) {
    const auto k = hn::Load(d, token.k + i), q = hn::Load(d, token.q + i);
    const auto s0 = hn::LoadU(d, s + i), s1 = hn::LoadU(d, s + at1 + i);
    const auto s2 = hn::LoadU(d, s + at2 + i), s3 = hn::LoadU(d, s + at3 + i);
    k0 = hn::MulAdd(s0, k, k0), q0 = hn::MulAdd(s0, q, q0);
    k1 = hn::MulAdd(s1, k, k1), q1 = hn::MulAdd(s1, q, q1);
    k2 = hn::MulAdd(s2, k, k2), q2 = hn::MulAdd(s2, q, q2);
    k3 = hn::MulAdd(s3, k, k3), q3 = hn::MulAdd(s3, q, q3);
  }
  if (g.rest > 0) {
    const float* end = s + whole;
    const auto k = hn::Load(d, token.k + whole), q = hn::Load(d, token.q + whole);
    const auto s0 = LoadFirst(d, end, g.rest), s1 = LoadFirst(d, end + at1, g.rest);
    const auto s2 = LoadFirst(d, end + at2, g.rest), s3 = LoadFirst(d, end + at3, g.rest);
    k0 = hn::MulAdd(s0, k, k0), q0 = hn::MulAdd(s0, q, q0);
    k1 = hn::MulAdd(s1, k, k1), q1 = hn::MulAdd(s1, q, q1);
    k2 = hn::MulAdd(s2, k, k2), q2 = hn::MulAdd(s2, q, q2);
    k3 = hn::MulAdd(s3, k, k3), q3 = hn::MulAdd(s3, q, q3);
  }
  SumsOf4(d, k0, k1, k2, k3, with_k);
  SumsOf4(d, q0, q1, q2, q3, with_q);
}

// S = decay S + error k^T. All rows are loaded before one is stored: two may be the same.
HWY_INLINE void Update(const Token& token, const Group& g, const float* errors, const float* from,
                       float* to) {
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const int64_t whole = g.key_dim - g.rest, at1 = g.at(1), at2 = g.at(2), at3 = g.at(3);
  const auto decay = hn::Set(d, token.decay);
  const auto e0 = hn::Set(d, errors[0]), e1 = hn::Set(d, errors[g.row(1)]);
  const auto e2 = hn::Set(d, errors[g.row(2)]), e3 = hn::Set(d, errors[g.row(3)]);
  for (int64_t i = 0; i < whole; i += lanes) {
    const auto k = hn::Load(d, token.k + i);
    const auto s0 = hn::MulAdd(e0, k, hn::Mul(decay, hn::LoadU(d, from + i)));
    const auto s1 = hn::MulAdd(e1, k, hn::Mul(decay, hn::LoadU(d, from + at1 + i)));
    const auto s2 = hn::MulAdd(e2, k, hn::Mul(decay, hn::LoadU(d, from + at2 + i)));
    const auto s3 = hn::MulAdd(e3, k, hn::Mul(decay, hn::LoadU(d, from + at3 + i)));
    hn::StoreU(s0, d, to + i), hn::StoreU(s1, d, to + at1 + i);
    hn::StoreU(s2, d, to + at2 + i), hn::StoreU(s3, d, to + at3 + i);
  }
  if (g.rest == 0) return;
  from += whole, to += whole;
  const auto k = hn::Load(d, token.k + whole);
  const auto s0 = hn::MulAdd(e0, k, hn::Mul(decay, LoadFirst(d, from, g.rest)));
  const auto s1 = hn::MulAdd(e1, k, hn::Mul(decay, LoadFirst(d, from + at1, g.rest)));
  const auto s2 = hn::MulAdd(e2, k, hn::Mul(decay, LoadFirst(d, from + at2, g.rest)));
  const auto s3 = hn::MulAdd(e3, k, hn::Mul(decay, LoadFirst(d, from + at3, g.rest)));
  StoreFirst(d, s0, to, g.rest), StoreFirst(d, s1, to + at1, g.rest);
  StoreFirst(d, s2, to + at2, g.rest), StoreFirst(d, s3, to + at3, g.rest);
}

// A group through one token; `from` and `to` may be the same. The output needs no second walk:
// (decay S + error k^T) q = decay (S q) + error (k . q).
HWY_INLINE void StepGroup(const Token& token, int64_t row, const Group& group, const float* from,
                          float* to) {
  const hn::CappedTag<float, kRows> d4;
  HWY_ALIGN float recalled[kRows];
  HWY_ALIGN float errors[kRows];
  Dots(token, group, from, errors, recalled);
  for (int64_t r = 0; r < group.n; r += static_cast<int64_t>(hn::Lanes(d4))) {
    const auto predicted = hn::Mul(hn::Set(d4, token.decay), hn::Load(d4, errors + r));
    const auto v = LoadUpTo(d4, token.v + row + r, group.n - r);
    const auto error = hn::Mul(hn::Set(d4, token.beta), hn::Sub(v, predicted));
    const auto out = hn::Mul(hn::Set(d4, token.decay), hn::Load(d4, recalled + r));
    StoreUpTo(d4, hn::MulAdd(error, hn::Set(d4, token.kq), out), token.out + row + r, group.n - r);
    hn::Store(error, d4, errors + r);
  }
  Update(token, group, errors, from, to);
}

// Rows [first, end) of a head's S through n tokens, in turns. kWhole: nothing but whole groups of
// whole vectors, which is nearly all there is to do, compiled for itself.
template <bool kWhole>
HWY_NOINLINE void StepTile(const Token* tokens, int32_t n, float* const* states, int64_t first,
                           int64_t end, int64_t key_dim) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(hn::ScalableTag<float>()));
  for (int32_t i = 0; i < n; ++i) {
    for (int64_t row = first; row < end; row += kRows) {
      const Group group{.n = kWhole ? kRows : std::min(kRows, end - row),
                        .key_dim = key_dim,
                        .rest = kWhole ? 0 : key_dim % lanes};
      StepGroup(tokens[i], row, group, states[i] + row * key_dim, states[i + 1] + row * key_dim);
    }
  }
}

void Prepare(const DeltaParams& p, int64_t t, int64_t head, Token* token) {
  const int64_t key_dim = p.k.dim(2);
  const int64_t at = head / (p.v.dim(1) / p.k.dim(1)) * key_dim;
  Normalise(p.q.row<float>(t) + at, p.k.row<float>(t) + at, key_dim, p.l2norm, p.scale, token);
  token->v = p.v.row<float>(t) + head * p.v.dim(2);
  token->out = p.out.row<float>(t) + head * p.v.dim(2);
  token->decay = std::exp(p.g.row<float>(t)[head]);
  token->beta = p.beta.row<float>(t)[head];
}

// All of a sequence's rows through one head: kTokens at a time, through kTileRows of S at a time,
// so that S is walked once for kTokens tokens.
void WalkHead(const DeltaParams& p, const StateSeq& seq, int64_t head) {
  const int64_t key_dim = p.k.dim(2), value_dim = p.v.dim(2);
  const int64_t head_offset = head * value_dim * key_dim;
  const bool whole_vectors =
      key_dim % static_cast<int64_t>(hn::Lanes(hn::ScalableTag<float>())) == 0;
  Token tokens[kTokens];
  float* states[kTokens + 1];  // before the first token, and after each
  for (int32_t begin = 0; begin < seq.q_len; begin += kTokens) {
    const int32_t n = std::min(kTokens, seq.q_len - begin);
    for (int32_t i = 0; i < n; ++i) Prepare(p, seq.q_begin + begin + i, head, &tokens[i]);
    for (int32_t i = 0; i <= n; ++i) {
      const int32_t rows = begin + i;
      const int32_t slot = rows == 0 ? 0 : p.state.slot_after(seq, rows);
      states[i] = p.state.recurrent(seq, slot) + head_offset;
    }
    const bool fresh = begin == 0 && seq.position == 0;
    if (fresh) states[0] = states[1];
    for (int64_t first = 0; first < value_dim; first += kTileRows) {
      const int64_t end = std::min(first + kTileRows, value_dim);
      if (fresh) std::fill(states[0] + first * key_dim, states[0] + end * key_dim, 0.0f);
      const bool whole = whole_vectors && (end - first) % kRows == 0;
      (whole ? StepTile<true> : StepTile<false>)(tokens, n, states, first, end, key_dim);
    }
  }
}

void Delta(const DeltaParams& p, Pool& pool) {
  const int64_t heads = p.v.dim(1);
  CHECK(p.k.dim(2) <= kMaxDeltaKeyDim, "key_dim {}", p.k.dim(2));
  CHECK(heads % p.k.dim(1) == 0, "{} heads over {} key heads", heads, p.k.dim(1));
  CHECK(p.state.recurrent_offset_bytes % 4 == 0, "offset {}", p.state.recurrent_offset_bytes);
  for (const StateSeq& seq : p.seqs) {
    CHECK(seq.n_slots == 0 || seq.q_len <= seq.n_slots, "{} rows, {} slots", seq.q_len,
          seq.n_slots);
  }
  pool.each(static_cast<int64_t>(p.seqs.size()) * heads, [&](int64_t task, int) {
    WalkHead(p, p.seqs[static_cast<size_t>(task / heads)], task % heads);
  });
}

}  // namespace ashlar::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ashlar {

ASHLAR_PER_ISA(delta_cpu, Delta)

}  // namespace ashlar
#endif
