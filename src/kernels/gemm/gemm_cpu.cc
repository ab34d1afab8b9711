// The tiles of every machine, by Highway: weights are widened to float once per tile step and
// multiplied in float. bf16 arithmetic differs in what is packed only: x rounded to bf16, kept as
// float.

#include "kernels/gemm/gemm_body.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/gemm/gemm_cpu.cc"
#include "kernels/cpu_targets.h"
// After cpu_targets.h, which trims the list of targets.
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
// Prefetch.
#include "hwy/cache_control.h"

HWY_BEFORE_NAMESPACE();
namespace ashlar::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Tiles are arrays of vectors in registers: vector sizes must be known (x86, NEON).
using FloatTag = hn::ScalableTag<float>;
using FloatVec = hn::Vec<FloatTag>;

HWY_INLINE FloatVec Widen(FloatTag d, const float* from) { return hn::LoadU(d, from); }
HWY_INLINE FloatVec Widen(FloatTag d, const Bf16* from) {
  const hn::Rebind<uint16_t, FloatTag> d16;
  const hn::Rebind<uint32_t, FloatTag> d32;
  const auto bits = hn::LoadU(d16, reinterpret_cast<const uint16_t*>(from));
  return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(d32, bits)));
}
HWY_INLINE FloatVec Widen(FloatTag d, const F16* from) {
  const hn::Rebind<hwy::float16_t, FloatTag> d16;
  return hn::PromoteTo(d, hn::LoadU(d16, reinterpret_cast<const hwy::float16_t*>(from)));
}

// out[0..4) (+)= the sums of the lanes of four accumulators. Every output is reduced by this tree.
HWY_INLINE void SumLanes4(FloatTag d, FloatVec a, FloatVec b, FloatVec c, FloatVec e, bool add,
                          float* HWY_RESTRICT out) {
#if HWY_TARGET == HWY_SCALAR
  const float sums[4] = {hn::GetLane(a), hn::GetLane(b), hn::GetLane(c), hn::GetLane(e)};
  for (int i = 0; i < 4; ++i) out[i] = add ? out[i] + sums[i] : sums[i];
  (void)d;
#else
  const hn::RepartitionToWide<FloatTag> d2;
  const auto ab = hn::Add(hn::InterleaveLower(d, a, b), hn::InterleaveUpper(d, a, b));
  const auto ce = hn::Add(hn::InterleaveLower(d, c, e), hn::InterleaveUpper(d, c, e));
  const auto ab2 = hn::BitCast(d2, ab), ce2 = hn::BitCast(d2, ce);
  const auto abce = hn::Add(hn::BitCast(d, hn::InterleaveLower(d2, ab2, ce2)),
                            hn::BitCast(d, hn::InterleaveUpper(d2, ab2, ce2)));
  // Each block of 128 bits now holds the four sums of its lanes.
  const hn::Full128<float> d4;
  HWY_ALIGN float blocks[hn::MaxLanes(d)];
  hn::Store(abce, d, blocks);
  auto sums = hn::Load(d4, blocks);
  for (size_t i = 4; i < hn::MaxLanes(d); i += 4) sums = hn::Add(sums, hn::Load(d4, blocks + i));
  if (add) sums = hn::Add(hn::LoadU(d4, out), sums);
  hn::StoreU(sums, d4, out);
#endif
}

// acc += the products of one vector of each weight row, at w[n], with the same elements of every x
// row. The x rows and one weight vector live in registers beside the accumulators: sixteen in all
// for three rows, which is what AVX2 has.
template <class W, int kRows>
HWY_INLINE void Step(FloatTag d, const W* const (&w)[kTileColumns], const GemmTile& t, int64_t at,
                     FloatVec (&acc)[kRows][kTileColumns]) {
  FloatVec x[kRows];
#pragma GCC unroll 8
  for (int m = 0; m < kRows; ++m) {
    x[m] = hn::Load(d, reinterpret_cast<const float*>(t.x + m * t.x_stride) + at);
  }
#pragma GCC unroll 8
  for (int n = 0; n < kTileColumns; ++n) {
    const auto wide = Widen(d, w[n]);
#pragma GCC unroll 8
    for (int m = 0; m < kRows; ++m) acc[m][n] = hn::MulAdd(wide, x[m], acc[m][n]);
  }
}

template <class W, int kRows>
void Tile(const GemmTile& tile) {
  const GemmTile t = tile;  // a copy: stores through out must not make the pointers look changed
  const FloatTag d;
  constexpr auto kLanes = static_cast<int64_t>(hn::MaxLanes(FloatTag()));
  FloatVec acc[kRows][kTileColumns];
#pragma GCC unroll 8
  for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 8
    for (int n = 0; n < kTileColumns; ++n) acc[m][n] = hn::Zero(d);
  }
  constexpr int64_t kStepBytes = kLanes * int64_t{sizeof(W)};
  const int64_t next_step = t.next_stride == 0 ? kTileColumns * kStepBytes : kStepBytes;
  const int64_t next_stride = t.next_stride == 0 ? kStepBytes : t.next_stride;
  const std::byte* next = t.next;
  const W* w[kTileColumns];
#pragma GCC unroll 8
  for (int n = 0; n < kTileColumns; ++n) w[n] = reinterpret_cast<const W*>(t.w[n]);
  int64_t at = 0;
  for (; at + kLanes <= t.k; at += kLanes) {
#pragma GCC unroll 8
    for (int i = 0; i < kTileColumns; ++i) hwy::Prefetch(next + i * next_stride);
    next += next_step;
    Step<W, kRows>(d, w, t, at, acc);
#pragma GCC unroll 8
    for (int n = 0; n < kTileColumns; ++n) w[n] += kLanes;
  }
  if (at < t.k) {
    // The row's end may be the mapping's end: copy what there is.
    W last[kTileColumns][kLanes] = {};
    for (int n = 0; n < kTileColumns; ++n) {
      for (int64_t i = 0; i < t.k - at; ++i) last[n][i] = w[n][i];
      w[n] = last[n];
    }
    Step<W, kRows>(d, w, t, at, acc);
  }
#pragma GCC unroll 8
  for (int m = 0; m < kRows; ++m) {
    SumLanes4(d, acc[m][0], acc[m][1], acc[m][2], acc[m][3], t.add, t.out + m * t.out_stride);
  }
}

void PackFloat(const float* values, int64_t n, std::byte* packed) {
  float* to = reinterpret_cast<float*>(packed);
  for (int64_t i = 0; i < kPackUnit; ++i) to[i] = i < n ? values[i] : 0.0f;
}
void PackRounded(const float* values, int64_t n, std::byte* packed) {
  float* to = reinterpret_cast<float*>(packed);
  for (int64_t i = 0; i < kPackUnit; ++i) to[i] = i < n ? to_float(to_bf16(values[i])) : 0.0f;
}

template <class W>
GemmBody BodyOf(DType compute) {
  GemmBody body = {.packed = DType::f32,
                   .rows = 3,
                   .tile = {nullptr, Tile<W, 1>, Tile<W, 2>, Tile<W, 3>},
                   .pack = compute == DType::bf16 ? PackRounded : PackFloat};
#if HWY_TARGET == HWY_AVX3
  // 32 registers: twice the accumulators.
  body.rows = 6;
  body.tile[4] = Tile<W, 4>, body.tile[5] = Tile<W, 5>, body.tile[6] = Tile<W, 6>;
#endif
  return body;
}

GemmBody Body(DType compute, DType w) {
  switch (w) {
    case DType::f32: return BodyOf<float>(compute);
    case DType::bf16: return BodyOf<Bf16>(compute);
    case DType::f16: return BodyOf<F16>(compute);
    case DType::f8e4m3:
    case DType::u8: return BodyOf<float>(compute);  // decoded
    default: CHECK(false, "gemm weights of {}", name(w));
  }
  return {};
}

}  // namespace ashlar::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ashlar {
namespace {
ASHLAR_PER_ISA(pick, Body)
}  // namespace

GemmBody gemm_body_highway(Isa isa, DType compute, DType w) {
  GemmBody body = pick(isa)(compute, w);
  const bool codes = w == DType::f8e4m3 || w == DType::u8;
  if (codes) body.decode = gemm_decode_highway(isa, w);
  return body;
}

}  // namespace ashlar
#endif
