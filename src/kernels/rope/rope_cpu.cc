#include "kernels/rope/rope.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/rope/rope_cpu.cc"
#include "kernels/cpu_targets.h"
// After cpu_targets.h, which trims the list of targets.
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

#include <algorithm>

#include "base/checked.h"

HWY_BEFORE_NAMESPACE();
namespace ashlar::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// One head's turned dims, R pairs: i with i + R.
void TurnHalves(const float* HWY_RESTRICT cosines, const float* HWY_RESTRICT sines, int64_t half,
                float* HWY_RESTRICT x) {
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= half; i += lanes) {
    const auto a = hn::LoadU(d, x + i), b = hn::LoadU(d, x + half + i);
    const auto c = hn::LoadU(d, cosines + i), s = hn::LoadU(d, sines + i);
    hn::StoreU(hn::MulSub(a, c, hn::Mul(b, s)), d, x + i);
    hn::StoreU(hn::MulAdd(b, c, hn::Mul(a, s)), d, x + half + i);
  }
  for (; i < half; ++i) {
    const float a = x[i], b = x[half + i];
    x[i] = a * cosines[i] - b * sines[i];
    x[half + i] = b * cosines[i] + a * sines[i];
  }
}

// The same pairs, 2i with 2i + 1.
void TurnInterleaved(const float* HWY_RESTRICT cosines, const float* HWY_RESTRICT sines,
                     int64_t half, float* HWY_RESTRICT x) {
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= half; i += lanes) {
    hn::Vec<decltype(d)> a, b;
    hn::LoadInterleaved2(d, x + 2 * i, a, b);
    const auto c = hn::LoadU(d, cosines + i), s = hn::LoadU(d, sines + i);
    hn::StoreInterleaved2(hn::MulSub(a, c, hn::Mul(b, s)), hn::MulAdd(b, c, hn::Mul(a, s)), d,
                          x + 2 * i);
  }
  for (; i < half; ++i) {
    const float a = x[2 * i], b = x[2 * i + 1];
    x[2 * i] = a * cosines[i] - b * sines[i];
    x[2 * i + 1] = b * cosines[i] + a * sines[i];
  }
}

void Rope(const RopeParams& p, Pool& pool) {
  const int64_t half = p.cos_sin.dim(1) / 2;
  const int64_t n_rows = p.x.dim(0), n_heads = p.x.dim(1);
  // A task is a few rows: enough that handing it out costs less than doing it.
  const int64_t rows_per_task =
      std::max<int64_t>(1, 8192 / std::max<int64_t>(1, n_heads * half * 2));
  pool.each(ceil_div(n_rows, rows_per_task), [&](int64_t task, int) {
    const int64_t end = std::min(n_rows, (task + 1) * rows_per_task);
    for (int64_t t = task * rows_per_task; t < end; ++t) {
      const float* cosines = p.cos_sin.row<float>(t);
      for (int64_t h = 0; h < n_heads; ++h) {
        float* head = p.x.row<float>(t) + h * p.x.stride(1) + p.offset;
        if (p.pairing == RopePairing::halves) {
          TurnHalves(cosines, cosines + half, half, head);
        } else {
          TurnInterleaved(cosines, cosines + half, half, head);
        }
      }
    }
  });
}

}  // namespace ashlar::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ashlar {

ASHLAR_PER_ISA(rope_cpu, Rope)

}  // namespace ashlar
#endif
