#pragma once

// RMSNorm: y = x * rsqrt(mean(x^2) + eps) * weight, per row.   (Zhang & Sennrich 2019, eq. 4)
//
// Families that store w and mean 1 + w fold the 1 in at load; the kernel knows one form. The mean
// is taken in float over a fixed lane order, so a row's result does not depend on the rows around
// it. Any thread may call; x and y may be the same rows.

#include "base/pool.h"
#include "kernels/isa.h"
#include "tensor/roof.h"
#include "tensor/view.h"

namespace ashlar {

struct RmsNormParams {
  ConstView x;                    // [T, D] f32, rows dense
  const float* weight = nullptr;  // [D]
  float eps = 1e-6f;
  View y;  // [T, D] f32, rows dense
};

using RmsNormFn = void (*)(const RmsNormParams&, Pool&);

void rms_norm_ref(const RmsNormParams& params, Pool& pool);
RmsNormFn rms_norm_cpu(Isa isa);

Roof roof(const RmsNormParams& params);

}  // namespace ashlar
