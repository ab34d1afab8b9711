// The middle of a gated MLP over vectors of floats, for *_cpu.cc files.

#include "kernels/act/gating.h"
#include "kernels/cpu_targets.h"
#include "kernels/exp-inl.h"
// After cpu_targets.h, which trims the list of targets.
#include "hwy/highway.h"

#if defined(ASHLAR_KERNELS_ACT_GATING_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef ASHLAR_KERNELS_ACT_GATING_INL_H
#undef ASHLAR_KERNELS_ACT_GATING_INL_H
#else
#define ASHLAR_KERNELS_ACT_GATING_INL_H
#endif

HWY_BEFORE_NAMESPACE();
namespace ashlar::HWY_NAMESPACE {

template <GateKind kKind, class D, class V = hwy::HWY_NAMESPACE::Vec<D>>
HWY_INLINE V Gated(D d, const Gating& gating, V gate, V up) {
  namespace hn = hwy::HWY_NAMESPACE;
  const auto one = hn::Set(d, 1.0f);
  auto z = gate;
  if constexpr (kKind == GateKind::gelu) {
    const auto cubic = hn::Set(d, static_cast<float>(kGeluCubic));
    const auto linear = hn::Set(d, static_cast<float>(kGeluLinear));
    z = hn::Mul(gate, hn::MulAdd(hn::Mul(gate, gate), cubic, linear));
  }
  if constexpr (kKind == GateKind::clamped) {
    // Comparisons rather than Min and Max, whose answer for NaN differs between targets.
    const auto high = hn::Set(d, gating.limit), low = hn::Set(d, -gating.limit);
    gate = hn::IfThenElse(hn::Gt(gate, high), high, gate);
    up = hn::IfThenElse(hn::Gt(up, high), high, up);
    up = hn::Add(hn::IfThenElse(hn::Lt(up, low), low, up), one);
    z = hn::Mul(gate, hn::Set(d, gating.alpha));
  }
  if constexpr (kKind == GateKind::sigmoid) gate = one;
  return hn::Mul(hn::Div(gate, hn::Add(one, Exp(d, hn::Neg(z)))), up);
}

}  // namespace ashlar::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
