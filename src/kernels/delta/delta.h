#pragma once

// The gated delta rule (Gated DeltaNet; Yang, Kautz & Hatamizadeh 2024, eq. 10): a state per head
// that decays, and learns the error of its own prediction of v from k.
//
//   q = scale * normal(q), k = normal(k);  normal(x) = x / sqrt(sum x^2 + 1e-6) if l2norm, else x
//   S = exp(g) S;  d = beta (v - S k);  S = S + d k^T;  o = S q
//
// State head h uses key head h / (H / KH). S is f32 [value_dim, key_dim]: its rows never meet,
// which is what threads and vectors share out.
//
// One body for prefill, chunks and decode: the recurrence itself, token by token. A row's result
// and the states left behind do not depend on how a sequence is cut into steps, on the batch, on
// threads, on slots or on where pages lie: bit for bit on one instruction set.
//
// Engine thread. Does not allocate. Reads no state but slot 0, and not even that at position 0.

#include <span>

#include "base/pool.h"
#include "kernels/delta/state.h"
#include "kernels/isa.h"
#include "tensor/roof.h"
#include "tensor/view.h"

namespace ashlar {

constexpr int32_t kMaxDeltaKeyDim = 256;
constexpr float kL2NormEps = 1e-6f;

// Any value_dim, key_dim at most kMaxDeltaKeyDim. The heads of a row are dense; rows of q, k and v
// may lie apart (they are columns of one convolution's output).
struct DeltaParams {
  ConstView q;     // [T, KH, key_dim] f32
  ConstView k;     // [T, KH, key_dim] f32
  ConstView v;     // [T, H, value_dim] f32; KH divides H
  ConstView g;     // [T, H] f32, log of the decay, <= 0
  ConstView beta;  // [T, H] f32
  View out;        // [T, H, value_dim] f32; not v's memory
  float scale = 1.0f;
  bool l2norm = true;
  StateView state;
  std::span<const StateSeq> seqs;  // rows of no sequence are not written
};

using DeltaFn = void (*)(const DeltaParams&, Pool&);

void delta_ref(const DeltaParams& params, Pool& pool);
DeltaFn delta_cpu(Isa isa);

// Bytes: each state read once (but at position 0) and written as often as it is kept; the rows
// once. Flops: 7 per element of S and token (two dot products, decay, update).
Roof roof(const DeltaParams& params);

// What a row's projections a and b say of its decay and of its learning rate:
//
//   g = -exp(a_log) * log(1 + exp(a + dt_bias));  beta = 1 / (1 + exp(-b))
//
// One plain body on every machine: a few numbers per row. Views may be columns of wider rows.
struct DeltaGatesParams {
  ConstView a;                     // [T, H] f32
  ConstView b;                     // [T, H] f32
  const float* a_log = nullptr;    // [H]
  const float* dt_bias = nullptr;  // [H]
  View g;                          // [T, H] f32; may be a's memory
  View beta;                       // [T, H] f32; may be b's memory
};

using DeltaGatesFn = void (*)(const DeltaGatesParams&, Pool&);

void delta_gates_ref(const DeltaGatesParams& params, Pool& pool);
void delta_gates(const DeltaGatesParams& params, Pool& pool);

Roof roof(const DeltaGatesParams& params);

}  // namespace ashlar
