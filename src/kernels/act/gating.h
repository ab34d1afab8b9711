#pragma once

// The middle of a gated MLP: which function of gate and up is handed to the down projection.
//
//   silu      gate * sigmoid(gate) * up                                     (Shazeer 2020)
//   gelu      gate * sigmoid(2 sqrt(2/pi) (gate + 0.044715 gate^3)) * up    (GELU, tanh form)
//   clamped   g * sigmoid(alpha g) * (u + 1), g = min(gate, limit),
//             u = clamp(up, -limit, limit)                                  (gpt-oss)
//   sigmoid   sigmoid(gate) * up: no MLP's middle, but the gate of an attention's output
// NaN stays NaN in all of them.

#include <cstdint>

namespace ashlar {

enum class GateKind : uint8_t { silu, gelu, clamped, sigmoid };

struct Gating {
  GateKind kind = GateKind::silu;
  float alpha = 1.702f;  // of clamped
  float limit = 7.0f;    // of clamped
};

constexpr double kGeluLinear = 1.5957691216057308;   // 2 sqrt(2/pi)
constexpr double kGeluCubic = 0.071354816272255270;  // times 0.044715

// One element in double, the specification.
double gated(const Gating& gating, double gate, double up);

}  // namespace ashlar
