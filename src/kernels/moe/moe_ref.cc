#include <cmath>
#include <vector>

#include "kernels/moe/moe.h"

namespace ashlar {
namespace {

// y = w x in float, as gemm defines it for one row.
std::vector<float> times(const ConstView& w, const std::vector<float>& x, DType compute,
                         Pool& pool) {
  std::vector<float> y(static_cast<size_t>(w.dim(0)));
  const auto* data = reinterpret_cast<const std::byte*>(x.data());
  gemm_ref({.x = ConstView(data, DType::f32, {1, w.dim(1)}),
            .w = w,
            .y = View(reinterpret_cast<std::byte*>(y.data()), DType::f32, {1, w.dim(0)}),
            .compute = compute},
           pool);
  return y;
}

}  // namespace

void experts_ref(const ExpertsParams& p, Pool& pool) {
  const int64_t hidden = p.x.dim(1);
  for (int64_t t = 0; t < p.x.dim(0); ++t) {
    const std::vector<float> x(p.x.row<float>(t), p.x.row<float>(t) + hidden);
    std::vector<float> sum(static_cast<size_t>(hidden));
    for (int64_t slot = 0; slot < p.ids.dim(1); ++slot) {
      const auto& expert = p.experts[static_cast<size_t>(p.ids.row<int32_t>(t)[slot])];
      std::vector<float> inner = times(expert.gate, x, p.compute, pool);
      const std::vector<float> up = times(expert.up, x, p.compute, pool);
      for (size_t i = 0; i < inner.size(); ++i) {
        inner[i] = inner[i] / (1.0f + std::exp(-inner[i])) * up[i];
      }
      const std::vector<float> down = times(expert.down, inner, p.compute, pool);
      const float weight = p.weights.row<float>(t)[slot];
      for (size_t i = 0; i < sum.size(); ++i) sum[i] += weight * down[i];
    }
    float* y = p.y.row<float>(t);
    for (size_t i = 0; i < sum.size(); ++i) y[i] += sum[i];
  }
}

Roof roof(const ExpertsParams& p) {
  const int64_t n_rows = p.x.dim(0) * p.ids.dim(1);
  if (n_rows == 0) return {};
  std::vector<bool> seen(p.experts.size());
  double bytes = static_cast<double>(p.x.shape.elements()) * 12;  // x, y read, y written
  for (int64_t t = 0; t < p.x.dim(0); ++t) {
    for (int64_t slot = 0; slot < p.ids.dim(1); ++slot) {
      const auto id = static_cast<size_t>(p.ids.row<int32_t>(t)[slot]);
      const ExpertWeights& expert = p.experts[id];
      if (!seen[id]) {
        bytes += static_cast<double>(expert.gate.bytes() + expert.up.bytes() + expert.down.bytes());
      }
      seen[id] = true;
    }
  }
  const double per_row = 6 * static_cast<double>(p.experts[0].gate.shape.elements());
  return {.bytes = bytes, .flops = static_cast<double>(n_rows) * per_row};
}

}  // namespace ashlar
