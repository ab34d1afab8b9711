// exp of a vector of floats, for *_cpu.cc files. The method and its constants are those of exp.h.

#include "kernels/cpu_targets.h"
#include "kernels/exp.h"
// After cpu_targets.h, which trims the list of targets.
#include "hwy/highway.h"

#if defined(ASHLAR_KERNELS_EXP_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef ASHLAR_KERNELS_EXP_INL_H
#undef ASHLAR_KERNELS_EXP_INL_H
#else
#define ASHLAR_KERNELS_EXP_INL_H
#endif

HWY_BEFORE_NAMESPACE();
namespace ashlar::HWY_NAMESPACE {

// exp(x) within 2 ulp over all floats: infinity above 88.73, gradual underflow to 0 below -87.3,
// NaN stays NaN.
template <class D, class V = hwy::HWY_NAMESPACE::Vec<D>>
HWY_INLINE V Exp(D d, V x) {
  namespace hn = hwy::HWY_NAMESPACE;
  const hn::RebindToSigned<D> di;
  // Beyond these the result is 0 or infinity already, and n fits its two halves below. Comparisons
  // rather than Min and Max, whose answer for NaN differs between targets.
  const auto low = hn::Set(d, -105.0f);
  const auto high = hn::Set(d, 90.0f);
  x = hn::IfThenElse(hn::Lt(x, low), low, x);
  x = hn::IfThenElse(hn::Gt(x, high), high, x);

  const auto n = hn::NearestInt(hn::Mul(x, hn::Set(d, kLog2E)));
  const auto steps = hn::ConvertTo(d, n);
  auto r = hn::NegMulAdd(steps, hn::Set(d, kLn2High), x);
  r = hn::NegMulAdd(steps, hn::Set(d, kLn2Low), r);
  auto q = hn::MulAdd(r, hn::Set(d, kExpQ[4]), hn::Set(d, kExpQ[3]));
  q = hn::MulAdd(r, q, hn::Set(d, kExpQ[2]));
  q = hn::MulAdd(r, q, hn::Set(d, kExpQ[1]));
  q = hn::MulAdd(r, q, hn::Set(d, kExpQ[0]));
  const auto y = hn::Add(hn::MulAdd(hn::Mul(r, r), q, r), hn::Set(d, 1.0f));

  // 2^n in two factors: n itself reaches past the exponents of normal floats at both ends.
  const auto half = hn::ShiftRight<1>(n);
  const auto bias = hn::Set(di, 127);
  const auto first = hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(half, bias)));
  const auto second = hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(hn::Sub(n, half), bias)));
  return hn::Mul(hn::Mul(y, first), second);
}

}  // namespace ashlar::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
