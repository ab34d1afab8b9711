#pragma once

// A gated MLP's middle: y = silu(gate) * up, or another of the functions in gating.h.

#include "base/pool.h"
#include "kernels/act/gating.h"
#include "kernels/isa.h"
#include "tensor/roof.h"
#include "tensor/view.h"

namespace ashlar {

struct SiluMulParams {
  ConstView gate;  // [T, I] f32, rows dense
  ConstView up;    // [T, I] f32, rows dense
  View y;          // [T, I] f32, rows dense; may be gate or up
  Gating gating;
};

using SiluMulFn = void (*)(const SiluMulParams&, Pool&);

void silu_mul_ref(const SiluMulParams& params, Pool& pool);
SiluMulFn silu_mul_cpu(Isa isa);

Roof roof(const SiluMulParams& params);

}  // namespace ashlar
