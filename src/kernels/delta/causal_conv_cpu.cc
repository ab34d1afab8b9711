#include "kernels/delta/causal_conv.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/delta/causal_conv_cpu.cc"
#include "kernels/cpu_targets.h"
// After cpu_targets.h, which trims the list of targets.
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/delta/partial-inl.h"
#include "kernels/exp-inl.h"

#include <algorithm>

#include "base/checked.h"

HWY_BEFORE_NAMESPACE();
namespace ashlar::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

constexpr int64_t kSpan = 256;  // channels of a task

// A task's span of channels: its weights by tap, and the last taps - 1 inputs as a ring. Behind n,
// up to a whole vector, they are anything finite.
struct Span {
  int64_t begin = 0;
  int64_t n = 0;
  int32_t kept = 0;
  int32_t oldest = 0;
  HWY_ALIGN float weight[kMaxConvTaps][kSpan];
  HWY_ALIGN float past[kMaxConvTaps - 1][kSpan];

  float* back(int32_t j) { return past[(oldest + j) % kept]; }  // j = 0: the oldest
};

// What bf16 keeps of a float, step by step as in tensor/dtype.h: nearest, ties to even.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V RoundToBf16(D d, V x) {
  const hn::RebindToUnsigned<D> du;
  const auto bits = hn::BitCast(du, x);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1u));
  const auto sum = hn::Add(hn::Add(bits, hn::Set(du, 0x7FFFu)), odd);
  const auto rounded = hn::BitCast(d, hn::And(sum, hn::Set(du, 0xFFFF0000u)));
  return hn::IfThenElse(hn::Eq(x, x), rounded, x);
}

void LoadWeight(const CausalConvParams& p, Span* span) {
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const float* weight = p.weight + span->begin * p.taps;
  int64_t i = 0;
  for (; i + lanes <= span->n; i += lanes) {
    auto w0 = hn::Zero(d), w1 = w0, w2 = w0, w3 = w0;
    if (p.taps == 2) hn::LoadInterleaved2(d, weight + 2 * i, w0, w1);
    if (p.taps == 3) hn::LoadInterleaved3(d, weight + 3 * i, w0, w1, w2);
    if (p.taps == 4) hn::LoadInterleaved4(d, weight + 4 * i, w0, w1, w2, w3);
    hn::Store(w0, d, span->weight[0] + i), hn::Store(w1, d, span->weight[1] + i);
    hn::Store(w2, d, span->weight[2] + i), hn::Store(w3, d, span->weight[3] + i);
  }
  for (int32_t j = 0; j < p.taps && i < span->n; ++j) {
    hn::Store(hn::Zero(d), d, span->weight[j] + i);
    for (int64_t c = i; c < span->n; ++c) span->weight[j][c] = weight[c * p.taps + j];
  }
}

void LoadPast(const CausalConvParams& p, const StateSeq& seq, Span* span) {
  const hn::ScalableTag<float> d;
  const hn::RebindToUnsigned<decltype(d)> du;
  const hn::Rebind<uint16_t, decltype(d)> d16;
  for (int32_t j = 0; j < span->kept; ++j) {
    const int64_t first = j * p.x.dim(1) + span->begin;
    for (int64_t i = 0; i < span->n; i += static_cast<int64_t>(hn::Lanes(d))) {
      auto value = hn::Zero(d);
      if (seq.position == 0) {
      } else if (p.state.conv_dtype == DType::f32) {
        const auto* page = reinterpret_cast<const float*>(p.state.page(seq, 0));
        value = LoadUpTo(d, page + first + i, span->n - i);
      } else {
        const auto* page = reinterpret_cast<const uint16_t*>(p.state.page(seq, 0));
        const auto bits = hn::PromoteTo(du, LoadUpTo(d16, page + first + i, span->n - i));
        value = hn::BitCast(d, hn::ShiftLeft<16>(bits));
      }
      hn::Store(value, d, span->past[j] + i);
    }
  }
}

void StorePast(const CausalConvParams& p, const StateSeq& seq, int32_t n_rows, Span* span) {
  const hn::ScalableTag<float> d;
  const hn::RebindToUnsigned<decltype(d)> du;
  const hn::Rebind<uint16_t, decltype(d)> d16;
  std::byte* page = p.state.page(seq, p.state.slot_after(seq, n_rows));
  for (int32_t j = 0; j < span->kept; ++j) {
    const int64_t first = j * p.x.dim(1) + span->begin;
    for (int64_t i = 0; i < span->n; i += static_cast<int64_t>(hn::Lanes(d))) {
      const auto value = hn::Load(d, span->back(j) + i);  // rounded already
      if (p.state.conv_dtype == DType::f32) {
        StoreUpTo(d, value, reinterpret_cast<float*>(page) + first + i, span->n - i);
      } else {
        const auto bits = hn::ShiftRight<16>(hn::BitCast(du, value));
        StoreUpTo(d16, hn::TruncateTo(d16, bits), reinterpret_cast<uint16_t*>(page) + first + i,
                  span->n - i);
      }
    }
  }
}

void ConvolveRow(const CausalConvParams& p, int64_t t, Span* span) {
  const hn::ScalableTag<float> d;
  const float* HWY_RESTRICT x = p.x.row<float>(t) + span->begin;
  const float* bias = p.bias == nullptr ? nullptr : p.bias + span->begin;
  float* HWY_RESTRICT y = p.y.row<float>(t) + span->begin;
  const bool rounds = p.state.conv_dtype == DType::bf16;
  for (int64_t i = 0; i < span->n; i += static_cast<int64_t>(hn::Lanes(d))) {
    auto u = bias == nullptr ? hn::Zero(d) : LoadUpTo(d, bias + i, span->n - i);
    for (int32_t j = 0; j < span->kept; ++j) {
      u = hn::MulAdd(hn::Load(d, span->weight[j] + i), hn::Load(d, span->back(j) + i), u);
    }
    const auto input = LoadUpTo(d, x + i, span->n - i);
    u = hn::MulAdd(hn::Load(d, span->weight[span->kept] + i), input, u);
    const auto denominator = hn::Add(hn::Set(d, 1.0f), Exp(d, hn::Neg(u)));
    StoreUpTo(d, hn::Div(u, denominator), y + i, span->n - i);
    hn::Store(rounds ? RoundToBf16(d, input) : input, d, span->back(0) + i);
  }
  span->oldest = (span->oldest + 1) % span->kept;
}

void ConvolveSpan(const CausalConvParams& p, const StateSeq& seq, int64_t begin) {
  Span span{.begin = begin, .n = std::min(kSpan, p.x.dim(1) - begin), .kept = p.taps - 1};
  LoadWeight(p, &span);
  LoadPast(p, seq, &span);
  for (int32_t i = 0; i < seq.q_len; ++i) {
    ConvolveRow(p, seq.q_begin + i, &span);
    if (seq.n_slots > 0 || i + 1 == seq.q_len) StorePast(p, seq, i + 1, &span);
  }
}

void CausalConv(const CausalConvParams& p, Pool& pool) {
  const int64_t channels = p.x.dim(1);
  CHECK(p.taps >= 2 && p.taps <= kMaxConvTaps, "taps {}", p.taps);
  CHECK(p.state.conv_dtype == DType::f32 || p.state.conv_dtype == DType::bf16, "{}",
        name(p.state.conv_dtype));
  for (const StateSeq& seq : p.seqs) {
    CHECK(seq.n_slots == 0 || seq.q_len <= seq.n_slots, "{} rows, {} slots", seq.q_len,
          seq.n_slots);
  }
  const int64_t spans = ceil_div(channels, kSpan);
  pool.each(static_cast<int64_t>(p.seqs.size()) * spans, [&](int64_t task, int) {
    ConvolveSpan(p, p.seqs[static_cast<size_t>(task / spans)], task % spans * kSpan);
  });
}

}  // namespace ashlar::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ashlar {

ASHLAR_PER_ISA(causal_conv_cpu, CausalConv)

}  // namespace ashlar
#endif
