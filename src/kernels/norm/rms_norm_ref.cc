#include <cmath>

#include "kernels/norm/rms_norm.h"

namespace ashlar {

void rms_norm_ref(const RmsNormParams& p, Pool&) {
  const int64_t width = p.x.dim(1);
  for (int64_t t = 0; t < p.x.dim(0); ++t) {
    const float* x = p.x.row<float>(t);
    float* y = p.y.row<float>(t);
    double sum = 0;
    for (int64_t i = 0; i < width; ++i) sum += static_cast<double>(x[i]) * x[i];
    const double scale = 1.0 / std::sqrt(sum / static_cast<double>(width) + p.eps);
    for (int64_t i = 0; i < width; ++i) y[i] = static_cast<float>(x[i] * scale) * p.weight[i];
  }
}

Roof roof(const RmsNormParams& p) {
  const double elements = static_cast<double>(p.x.shape.elements());
  return {.bytes = elements * 8 + static_cast<double>(p.x.dim(1)) * 4, .flops = elements * 4};
}

}  // namespace ashlar
