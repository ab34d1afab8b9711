#include "kernels/norm/gated_norm.h"

#include <cmath>

namespace ashlar {

void gated_norm_ref(const GatedNormParams& p, Pool&) {
  const int64_t heads = p.x.dim(1), width = p.x.dim(2);
  for (int64_t i = 0; i < p.x.dim(0) * heads; ++i) {
    const int64_t at = i % heads * width;
    const float* x = p.x.row<float>(i / heads) + at;
    const float* gate = p.gate.row<float>(i / heads) + at;
    float* y = p.y.row<float>(i / heads) + at;
    double sum = 0;
    for (int64_t j = 0; j < width; ++j) sum += double{x[j]} * x[j];
    const double scale = 1.0 / std::sqrt(sum / static_cast<double>(width) + double{p.eps});
    for (int64_t j = 0; j < width; ++j) {
      const double silu = gate[j] / (1.0 + std::exp(-double{gate[j]}));
      y[j] = static_cast<float>(x[j] * scale * p.weight[j] * silu);
    }
  }
}

Roof roof(const GatedNormParams& p) {
  const double elements = static_cast<double>(p.x.shape.elements());
  return {.bytes = elements * 12 + static_cast<double>(p.x.dim(2)) * 4, .flops = elements * 8};
}

}  // namespace ashlar
