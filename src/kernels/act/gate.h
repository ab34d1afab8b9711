#pragma once

// One sigmoid gate per row, sigmoid(g) = 1 / (1 + exp(-g)); elementwise ones are a GateKind
// (gating.h). One body on every machine. Engine thread.

#include "base/pool.h"
#include "tensor/view.h"

namespace ashlar {

// y[t] += sigmoid(gate[t]) * x[t]; gate [T, 1], x and y [T, I] f32, rows dense.
void add_gated(ConstView gate, ConstView x, View y, Pool& pool);

}  // namespace ashlar
