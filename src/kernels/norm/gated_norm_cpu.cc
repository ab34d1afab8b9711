#include "kernels/norm/gated_norm.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/norm/gated_norm_cpu.cc"
#include "kernels/cpu_targets.h"
// After cpu_targets.h, which trims the list of targets.
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/exp-inl.h"

#include <algorithm>
#include <cmath>

#include "base/checked.h"

HWY_BEFORE_NAMESPACE();
namespace ashlar::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class D, class V = hn::Vec<D>>
HWY_INLINE V ScaledAndGated(D d, V x, V scale, V weight, V gate) {
  const auto denominator = hn::Add(hn::Set(d, 1.0f), Exp(d, hn::Neg(gate)));
  return hn::Mul(hn::Mul(hn::Mul(x, scale), weight), hn::Div(gate, denominator));
}

void NormHead(const float* x, const float* gate, const float* weight, float eps, int64_t width,
              float* y) {
  const hn::ScalableTag<float> d;
  const hn::CappedTag<float, 1> one;  // the rest, lane by lane
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const int64_t whole = width / lanes * lanes;
  auto sums = hn::Zero(d);
  for (int64_t i = 0; i < whole; i += lanes) {
    const auto v = hn::LoadU(d, x + i);
    sums = hn::MulAdd(v, v, sums);
  }
  float sum = hn::GetLane(hn::SumOfLanes(d, sums));
  for (int64_t i = whole; i < width; ++i) sum += x[i] * x[i];
  const float scale = 1.0f / std::sqrt(sum / static_cast<float>(width) + eps);
  const auto apply = [&](auto tag, int64_t i) HWY_ATTR {
    hn::StoreU(ScaledAndGated(tag, hn::LoadU(tag, x + i), hn::Set(tag, scale),
                              hn::LoadU(tag, weight + i), hn::LoadU(tag, gate + i)),
               tag, y + i);
  };
  for (int64_t i = 0; i < whole; i += lanes) apply(d, i);
  for (int64_t i = whole; i < width; ++i) apply(one, i);
}

void GatedNorm(const GatedNormParams& p, Pool& pool) {
  const int64_t heads = p.x.dim(1), width = p.x.dim(2);
  // A task is a few heads: enough that handing it out costs less than doing it.
  const int64_t heads_per_task = std::max<int64_t>(1, 4096 / width);
  const int64_t n = p.x.dim(0) * heads;
  pool.each(ceil_div(n, heads_per_task), [&](int64_t task, int) {
    const int64_t end = std::min(n, (task + 1) * heads_per_task);
    for (int64_t i = task * heads_per_task; i < end; ++i) {
      const int64_t t = i / heads, at = i % heads * width;
      NormHead(p.x.row<float>(t) + at, p.gate.row<float>(t) + at, p.weight, p.eps, width,
               p.y.row<float>(t) + at);
    }
  });
}

}  // namespace ashlar::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ashlar {

ASHLAR_PER_ISA(gated_norm_cpu, GatedNorm)

}  // namespace ashlar
#endif
