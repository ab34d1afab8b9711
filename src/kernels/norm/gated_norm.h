#pragma once

// RMSNorm per head with a gate behind it:  y = x * rsqrt(mean(x^2) + eps) * weight * silu(gate)
// (the output of Gated DeltaNet; Yang, Kautz & Hatamizadeh 2024, figure 1; weight as stored, no
// 1 + w).
//
// A head's result does not depend on the heads and rows around it. Any thread may call; y may be
// the memory of x or of gate.

#include "base/pool.h"
#include "kernels/isa.h"
#include "tensor/roof.h"
#include "tensor/view.h"

namespace ashlar {

// The heads of a row are dense; rows may lie apart.
struct GatedNormParams {
  ConstView x;                    // [T, H, D] f32
  ConstView gate;                 // [T, H, D] f32
  const float* weight = nullptr;  // [D]
  float eps = 1e-6f;
  View y;  // [T, H, D] f32
};

using GatedNormFn = void (*)(const GatedNormParams&, Pool&);

void gated_norm_ref(const GatedNormParams& params, Pool& pool);
GatedNormFn gated_norm_cpu(Isa isa);

Roof roof(const GatedNormParams& params);

}  // namespace ashlar
