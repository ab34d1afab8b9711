#include <cmath>

#include "model/layers.h"

namespace ashlar {

// Gated DeltaNet (Yang, Kautz & Hatamizadeh 2024, figure 1).
void state_layer(const StepContext& step, const StateSpec& spec, const StateWeights& weights,
                 const StateView& state, std::span<const StateSeq> seqs) {
  const int64_t n = step.n_tokens;
  const Scratch& scratch = step.scratch;
  const int64_t keys = int64_t{spec.key_heads} * spec.key_dim;
  const int64_t values = int64_t{spec.heads} * spec.value_dim;
  const View x = scratch.normed(n);
  const View qkv = scratch.q(n, 2 * keys + values);
  step.multiply(x, weights.q, {}, qkv.columns(0, keys));
  step.multiply(x, weights.k, {}, qkv.columns(keys, 2 * keys));
  step.multiply(x, weights.v, {}, qkv.columns(2 * keys, 2 * keys + values));
  const View mixed = scratch.k(n, 2 * keys + values);
  step.ops.causal_conv({.x = qkv,
                        .weight = floats(weights.conv),
                        .taps = spec.conv_kernel,
                        .y = mixed,
                        .state = state,
                        .seqs = seqs},
                       step.pool);
  const View decay = scratch.gate(n, spec.heads);
  const View rate = scratch.up(n, spec.heads);
  step.multiply(x, weights.a, {}, decay);
  step.multiply(x, weights.b, {}, rate);
  step.ops.delta_gates({.a = decay,
                        .b = rate,
                        .a_log = floats(weights.a_log),
                        .dt_bias = floats(weights.dt_bias),
                        .g = decay,
                        .beta = rate},
                       step.pool);
  const View attended = scratch.attended(n, values);
  const View out = attended.split(spec.heads, spec.value_dim);
  step.ops.delta({.q = mixed.columns(0, keys).split(spec.key_heads, spec.key_dim),
                  .k = mixed.columns(keys, 2 * keys).split(spec.key_heads, spec.key_dim),
                  .v = mixed.columns(2 * keys, 2 * keys + values).split(spec.heads, spec.value_dim),
                  .g = decay,
                  .beta = rate,
                  .out = out,
                  .scale = 1.0f / std::sqrt(static_cast<float>(spec.key_dim)),
                  .state = state,
                  .seqs = seqs},
                 step.pool);
  const View z = scratch.v(n, values);
  step.multiply(x, weights.z, {}, z);
  step.ops.gated_norm({.x = out,
                       .gate = z.split(spec.heads, spec.value_dim),
                       .weight = floats(weights.norm),
                       .eps = step.spec.norm_eps,
                       .y = out},
                      step.pool);
  step.multiply(attended, weights.o, {}, step.output(), /*accumulate=*/true);
}

}  // namespace ashlar
