#include <vector>

#include "kernels/moe/moe.h"

namespace ashlar {
namespace {

// y = w x in float, as gemm defines it for one row.
std::vector<float> times(const Matrix& w, const ConstView& bias, const std::vector<float>& x,
                         DType compute, Pool& pool) {
  std::vector<float> y(static_cast<size_t>(w.dim(0)));
  const auto* data = reinterpret_cast<const std::byte*>(x.data());
  gemm_ref({.x = ConstView(data, DType::f32, {1, w.width()}),
            .w = w,
            .y = View(reinterpret_cast<std::byte*>(y.data()), DType::f32, {1, w.dim(0)}),
            .compute = compute},
           pool);
  for (size_t i = 0; bias && i < y.size(); ++i) {
    const auto n = static_cast<int64_t>(i);
    y[i] += bias.dtype == DType::bf16 ? to_float(*bias.row<Bf16>(n)) : *bias.row<float>(n);
  }
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
      std::vector<float> inner = times(expert.gate, expert.gate_bias, x, p.compute, pool);
      const std::vector<float> up = times(expert.up, expert.up_bias, x, p.compute, pool);
      for (size_t i = 0; i < inner.size(); ++i) {
        inner[i] = static_cast<float>(gated(p.gating, inner[i], up[i]));
      }
      const std::vector<float> down = times(expert.down, expert.down_bias, inner, p.compute, pool);
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
  const double per_row =
      6 * static_cast<double>(p.experts[0].gate.dim(0) * p.experts[0].gate.width());
  return {.bytes = bytes, .flops = static_cast<double>(n_rows) * per_row};
}

}  // namespace ashlar
