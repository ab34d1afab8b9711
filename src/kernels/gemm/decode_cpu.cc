// Codes of quantised weights to floats, by Highway: w = code * scale, rounded once.

#include <algorithm>
#include <limits>

#include "kernels/gemm/codes.h"
#include "kernels/gemm/gemm_body.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/gemm/decode_cpu.cc"
#include "kernels/cpu_targets.h"
// After cpu_targets.h, which trims the list of targets.
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace ashlar::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using FloatTag = hn::ScalableTag<float>;
using WordTag = hn::Rebind<uint16_t, FloatTag>;
using HalfTag = hn::Rebind<hwy::float16_t, FloatTag>;
using ByteTag = hn::Rebind<uint8_t, FloatTag>;

// Bits of binary16 are the way from codes to floats: its conversion is one instruction, exact for
// subnormal numbers too.
template <class Words>
HWY_INLINE auto FromHalf(Words bits) {
  return hn::PromoteTo(FloatTag(), hn::BitCast(HalfTag(), bits));
}

// kScaleBlock codes.
HWY_INLINE void DecodeE4M3Block(const uint8_t* codes, float scale, float* out) {
  const FloatTag d;
  const WordTag dw;
  constexpr auto kLanes = static_cast<int64_t>(hn::MaxLanes(FloatTag()));
  const auto factor = hn::Set(d, scale);
  const auto bias = hn::Set(d, 256.0f);  // exponent bias 15 instead of 7
  const auto nan = hn::Set(d, std::numeric_limits<float>::quiet_NaN());
  for (int64_t i = 0; i < kScaleBlock; i += kLanes) {
    const auto v = hn::PromoteTo(dw, hn::LoadU(ByteTag(), codes + i));
    const auto magnitude = hn::And(v, hn::Set(dw, 0x7F));
    const auto sign = hn::ShiftLeft<8>(hn::And(v, hn::Set(dw, 0x80)));
    const auto number = hn::Mul(FromHalf(hn::Or(hn::ShiftLeft<7>(magnitude), sign)), bias);
    const auto is_nan = hn::Eq(hn::Abs(number), hn::Set(d, 480.0f));  // all ones, were it a number
    hn::StoreU(hn::Mul(hn::IfThenElse(is_nan, nan, number), factor), d, out + i);
  }
}

void DecodeE4M3(const std::byte* codes, const std::byte* scales, int64_t n, std::byte* decoded) {
  const auto* from = reinterpret_cast<const uint8_t*>(codes);
  const auto* scale = reinterpret_cast<const float*>(scales);
  auto* out = reinterpret_cast<float*>(decoded);
  int64_t at = 0;
  for (; at + kScaleBlock <= n; at += kScaleBlock) {
    DecodeE4M3Block(from + at, *scale++, out + at);
  }
  if (at == n) return;
  uint8_t last[kScaleBlock] = {};
  std::copy(from + at, from + n, last);
  DecodeE4M3Block(last, *scale, out + at);
}

// A group's 16 bytes make 32 floats.
void DecodeE2M1(const std::byte* codes, const std::byte* scales, int64_t n, std::byte* decoded) {
  const FloatTag d;
  const WordTag dw;
  constexpr auto kLanes = static_cast<int64_t>(hn::MaxLanes(FloatTag()));
  const auto bias = hn::Set(d, 16384.0f);  // exponent bias 15 instead of 1
  const auto* from = reinterpret_cast<const uint8_t*>(codes);
  auto* out = reinterpret_cast<float*>(decoded);
  for (int64_t at = 0; at < n; at += kScaleGroup, ++scales) {
    const auto factor = hn::Set(d, from_e8m0(static_cast<uint8_t>(*scales)));
    for (int64_t i = 0; i < kScaleGroup / 2; i += kLanes) {
      const auto v = hn::PromoteTo(dw, hn::LoadU(ByteTag(), from + at / 2 + i));
      const auto even = hn::Or(hn::ShiftLeft<9>(hn::And(v, hn::Set(dw, 0x07))),
                               hn::ShiftLeft<12>(hn::And(v, hn::Set(dw, 0x08))));
      const auto odd = hn::Or(hn::ShiftLeft<5>(hn::And(v, hn::Set(dw, 0x70))),
                              hn::ShiftLeft<8>(hn::And(v, hn::Set(dw, 0x80))));
      hn::StoreInterleaved2(hn::Mul(hn::Mul(FromHalf(even), bias), factor),
                            hn::Mul(hn::Mul(FromHalf(odd), bias), factor), d, out + at + 2 * i);
    }
  }
}

GemmDecodeFn Decode(DType w) { return w == DType::u8 ? DecodeE2M1 : DecodeE4M3; }

}  // namespace ashlar::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ashlar {
namespace {
ASHLAR_PER_ISA(pick, Decode)
}  // namespace

GemmDecodeFn gemm_decode_highway(Isa isa, DType w) { return pick(isa)(w); }

}  // namespace ashlar
#endif
