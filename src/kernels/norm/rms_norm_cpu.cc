#include "kernels/norm/rms_norm.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/norm/rms_norm_cpu.cc"
#include "kernels/cpu_targets.h"
// After cpu_targets.h, which trims the list of targets.
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

#include <cmath>

HWY_BEFORE_NAMESPACE();
namespace ashlar::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

void NormRow(const float* HWY_RESTRICT x, const float* HWY_RESTRICT weight, float eps,
             int64_t width, float* y) {
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  auto sums = hn::Zero(d);
  int64_t i = 0;
  for (; i + lanes <= width; i += lanes) {
    const auto v = hn::LoadU(d, x + i);
    sums = hn::MulAdd(v, v, sums);
  }
  float sum = hn::GetLane(hn::SumOfLanes(d, sums));
  for (int64_t rest = i; rest < width; ++rest) sum += x[rest] * x[rest];
  const float scale = 1.0f / std::sqrt(sum / static_cast<float>(width) + eps);
  const auto scales = hn::Set(d, scale);
  for (i = 0; i + lanes <= width; i += lanes) {
    const auto v = hn::Mul(hn::LoadU(d, x + i), scales);
    hn::StoreU(hn::Mul(v, hn::LoadU(d, weight + i)), d, y + i);
  }
  for (; i < width; ++i) y[i] = x[i] * scale * weight[i];
}

void RmsNorm(const RmsNormParams& p, Pool& pool) {
  // A task is a few rows: enough that handing it out costs less than doing it.
  const int64_t rows_per_task = std::max<int64_t>(1, 8192 / p.x.dim(1));
  const int64_t n_rows = p.x.dim(0);
  pool.each((n_rows + rows_per_task - 1) / rows_per_task, [&](int64_t task, int) {
    const int64_t end = std::min(n_rows, (task + 1) * rows_per_task);
    for (int64_t t = task * rows_per_task; t < end; ++t) {
      NormRow(p.x.row<float>(t), p.weight, p.eps, p.x.dim(1), p.y.row<float>(t));
    }
  });
}

}  // namespace ashlar::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ashlar {

ASHLAR_PER_ISA(rms_norm_cpu, RmsNorm)

}  // namespace ashlar
#endif
