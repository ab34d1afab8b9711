#include <cmath>

#include "kernels/act/silu_mul.h"

namespace ashlar {

double gated(const Gating& gating, double gate, double up) {
  double z = gate;
  if (gating.kind == GateKind::gelu) z = gate * (kGeluLinear + kGeluCubic * gate * gate);
  if (gating.kind == GateKind::clamped) {
    const double limit = gating.limit;
    if (gate > limit) gate = limit;
    if (up > limit) up = limit;
    if (up < -limit) up = -limit;
    up += 1;
    z = static_cast<double>(gating.alpha) * gate;
  }
  if (gating.kind == GateKind::sigmoid) gate = 1;
  return gate / (1.0 + std::exp(-z)) * up;
}

void silu_mul_ref(const SiluMulParams& p, Pool&) {
  for (int64_t t = 0; t < p.gate.dim(0); ++t) {
    const float* gate = p.gate.row<float>(t);
    const float* up = p.up.row<float>(t);
    float* y = p.y.row<float>(t);
    for (int64_t i = 0; i < p.gate.dim(1); ++i) {
      y[i] = static_cast<float>(gated(p.gating, gate[i], up[i]));
    }
  }
}

Roof roof(const SiluMulParams& p) {
  // exp is counted as 12: its multiplications and additions.
  const double elements = static_cast<double>(p.gate.shape.elements());
  return {.bytes = elements * 12, .flops = elements * 15};
}

}  // namespace ashlar
