#pragma once

// Sigmoid gates: sigmoid(g) = 1 / (1 + exp(-g)), elementwise or one per row. One body on every
// machine. Engine thread.

#include "base/pool.h"
#include "tensor/view.h"

namespace ashlar {

// y = sigmoid(gate) * x; all [T, I] f32, rows dense; y may be x or gate.
void sigmoid_mul(ConstView gate, ConstView x, View y, Pool& pool);

// y[t] += sigmoid(gate[t]) * x[t]; gate [T, 1], x and y [T, I] f32, rows dense.
void add_gated(ConstView gate, ConstView x, View y, Pool& pool);

}  // namespace ashlar
