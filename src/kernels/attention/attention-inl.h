// Per-target functions of the attention bodies: exp2, tanh, and reading pages as floats.
// Included once per Highway target.

#if defined(ASHLAR_ATTENTION_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef ASHLAR_ATTENTION_INL_H
#undef ASHLAR_ATTENTION_INL_H
#else
#define ASHLAR_ATTENTION_INL_H
#endif

#include <limits>

#include "hwy/highway.h"
#include "tensor/dtype.h"

// One lane is not enough for cells of four by four: attention_plain.cc serves such machines.
#if HWY_TARGET != HWY_SCALAR

HWY_BEFORE_NAMESPACE();
namespace ashlar::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// 2^x for x <= 0, within 2e-7 of itself; exactly 1 at 0 and exactly 0 below -126, -inf included.
// NaN stays NaN. The polynomial is minimax in relative error on [-1/2, 1/2] with its constant held
// at 1 (fitted by us).
template <class D, class V = hn::Vec<D>>
HWY_INLINE V Exp2(D d, V x) {
  const hn::RebindToSigned<D> di;
  // Adding 1.5 * 2^23 leaves round(x) in the low bits.
  const V magic = hn::Set(d, 12582912.0f);
  const V shifted = hn::Add(x, magic);
  const V f = hn::Sub(x, hn::Sub(shifted, magic));
  V p = hn::Set(d, 0x1.5bba14p-10f);
  p = hn::MulAdd(p, f, hn::Set(d, 0x1.3cea88p-7f));
  p = hn::MulAdd(p, f, hn::Set(d, 0x1.c6b752p-5f));
  p = hn::MulAdd(p, f, hn::Set(d, 0x1.ebf9bcp-3f));
  p = hn::MulAdd(p, f, hn::Set(d, 0x1.62e42ap-1f));
  p = hn::MulAdd(p, f, hn::Set(d, 1.0f));
  const auto exponent = hn::ShiftLeft<23>(hn::BitCast(di, shifted));
  const V scaled = hn::BitCast(d, hn::Add(hn::BitCast(di, p), exponent));
  return hn::IfThenZeroElse(hn::Lt(x, hn::Set(d, -126.0f)), scaled);
}

// (1 - e) / (1 + e) with e = exp(-2 |x|): within 1e-7 absolutely, which is what a logit needs.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V Tanh(D d, V x) {
  const V e = Exp2(d, hn::Mul(hn::Abs(x), hn::Set(d, -2.88539008f)));
  const V one = hn::Set(d, 1.0f);
  return hn::CopySign(hn::Div(hn::Sub(one, e), hn::Add(one, e)), x);
}

// Lanes(d) elements of a page's row, as floats, exactly.
template <class D>
HWY_INLINE hn::Vec<D> Widen(D d, const float* from) {
  return hn::LoadU(d, from);
}
template <class D>
HWY_INLINE hn::Vec<D> Widen(D d, const Bf16* from) {
  const hn::Rebind<uint16_t, D> d16;
  const hn::RebindToUnsigned<D> d32;
  const auto bits = hn::PromoteTo(d32, hn::LoadU(d16, reinterpret_cast<const uint16_t*>(from)));
  return hn::BitCast(d, hn::ShiftLeft<16>(bits));
}
template <class D>
HWY_INLINE hn::Vec<D> Widen(D d, const F16* from) {
  const hn::Rebind<uint16_t, D> d16;
  const hn::RebindToUnsigned<D> d32;
  const auto bits = hn::PromoteTo(d32, hn::LoadU(d16, reinterpret_cast<const uint16_t*>(from)));
  const auto magnitude = hn::ShiftLeft<13>(hn::And(bits, hn::Set(d32, 0x7FFFu)));
  const auto sign = hn::ShiftLeft<16>(hn::And(bits, hn::Set(d32, 0x8000u)));
  // The multiplication moves the exponent by 112 and makes subnormals normal.
  const auto moved = hn::Mul(hn::BitCast(d, magnitude), hn::Set(d, 0x1p112f));
  const auto special = hn::Or(magnitude, hn::Set(d32, 0x7F800000u));
  const auto is_special =
      hn::Ge(hn::BitCast(d, magnitude), hn::BitCast(d, hn::Set(d32, 0x0F800000u)));
  const auto value = hn::IfThenElse(is_special, hn::BitCast(d, special), moved);
  return hn::Or(value, hn::BitCast(d, sign));
}

template <class D, class F8>
HWY_INLINE hn::Vec<D> WidenF8(D d, const F8* from) {
  constexpr F8Format kFormat = F8::kFormat;
  constexpr int kShift = kFormat.shift();
  const hn::Rebind<uint8_t, D> d8;
  const hn::RebindToSigned<D> di;
  const auto bits = hn::PromoteTo(di, hn::LoadU(d8, reinterpret_cast<const uint8_t*>(from)));
  const auto sign = hn::ShiftLeft<24>(hn::And(bits, hn::Set(di, 0x80)));
  const auto code = hn::And(bits, hn::Set(di, 0x7F));
  const auto moved = hn::ShiftLeft<kShift>(code);
  const auto normal = hn::Add(moved, hn::Set(di, static_cast<int32_t>(kFormat.rebias())));
  const auto special = hn::Or(moved, hn::Set(di, 0x7F800000));
  // By integers: some machines are slow to multiply subnormal floats.
  const auto subnormal =
      hn::BitCast(di, hn::Mul(hn::ConvertTo(d, code), hn::Set(d, kFormat.unit())));
  auto value =
      hn::IfThenElse(hn::Lt(code, hn::Set(di, 1 << kFormat.mantissa_bits)), subnormal, normal);
  const auto last = hn::Set(di, static_cast<int32_t>(kFormat.largest));
  value = hn::IfThenElse(hn::Gt(code, last), special, value);
  return hn::BitCast(d, hn::Or(value, sign));
}
template <class D>
HWY_INLINE hn::Vec<D> Widen(D d, const F8E4M3* from) {
  return WidenF8(d, from);
}
template <class D>
HWY_INLINE hn::Vec<D> Widen(D d, const F8E5M2* from) {
  return WidenF8(d, from);
}

// n elements as floats, then zeros up to `padded` (a multiple of the vector).
template <class T>
HWY_INLINE void WidenRow(const T* HWY_RESTRICT from, int64_t n, int64_t padded,
                         float* HWY_RESTRICT to) {
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) hn::StoreU(Widen(d, from + i), d, to + i);
  for (; i < n; ++i) to[i] = to_float(from[i]);
  for (; i < padded; ++i) to[i] = 0.0f;
}

// Rounds to bf16 and widens again, as to_bf16 does.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V RoundToBf16(D d, V v) {
  const hn::RebindToUnsigned<D> du;
  const auto bits = hn::BitCast(du, v);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1u));
  const auto rounded = hn::Add(hn::Add(bits, hn::Set(du, 0x7FFFu)), odd);
  const auto kept = hn::And(rounded, hn::Set(du, 0xFFFF0000u));
  return hn::IfThenElse(hn::Eq(v, v), hn::BitCast(d, kept), v);
}

}  // namespace ashlar::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // HWY_TARGET != HWY_SCALAR
#endif  // per target
