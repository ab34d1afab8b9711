#pragma once

// The short causal convolution of a recurrent layer, depthwise, with SiLU behind it:
//
//   u[t, c] = bias[c] + sum_j weight[c, j] * x[t - (taps - 1) + j, c];   y = u * sigmoid(u)
//
// Rows before a sequence's first one come from its state page: zeros at position 0. An input enters
// its own row's sum as it is, and later rows' sums as the state keeps it, rounded to conv_dtype,
// also where they are rows of one step: so a sequence's result does not depend on how it is cut
// into steps, bit for bit on one instruction set. Nor does it depend on the batch or on threads.
//
// Engine thread. Does not allocate. Reads no state but slot 0, and not even that at position 0;
// writes the last taps - 1 inputs as StateSeq says.

#include <span>

#include "base/pool.h"
#include "kernels/delta/state.h"
#include "kernels/isa.h"
#include "tensor/roof.h"
#include "tensor/view.h"

namespace ashlar {

constexpr int32_t kMaxConvTaps = 4;

struct CausalConvParams {
  ConstView x;                    // [T, C] f32, elements of a row dense
  const float* weight = nullptr;  // [C, taps]
  const float* bias = nullptr;    // [C], nullable
  int32_t taps = 4;               // 2 to kMaxConvTaps
  View y;                         // [T, C] f32, elements of a row dense; not x's memory
  StateView state;
  std::span<const StateSeq> seqs;  // rows of no sequence are not written
};

using CausalConvFn = void (*)(const CausalConvParams&, Pool&);

void causal_conv_ref(const CausalConvParams& params, Pool& pool);
CausalConvFn causal_conv_cpu(Isa isa);

// Bytes: x, y, weight once; each state read once and written as often as it is kept.
Roof roof(const CausalConvParams& params);

}  // namespace ashlar
