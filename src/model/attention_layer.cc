#include "model/layers.h"

namespace ashlar {
namespace {

// [T, heads * dim], dense, seen as one head per row.
View as_rows(const View& x, int64_t dim) {
  return View(x.data, x.dtype, {x.shape.elements() / dim, dim});
}

}  // namespace

void context_layer(const StepContext& step, const AttentionSpec& spec,
                   const AttentionWeights& weights, const LayerCache& cache,
                   std::span<const AttnSeq> seqs) {
  const int64_t n = step.n_tokens;
  const View x = step.scratch.normed(n);
  const View k = step.scratch.k(n, int64_t{spec.kv_heads} * spec.k_dim);
  const View v = step.scratch.v(n, int64_t{spec.kv_heads} * spec.v_dim);
  step.multiply(x, weights.k, weights.k_bias, k);
  step.multiply(x, weights.v, weights.v_bias, v);
  if (spec.qk_norm) step.normalize(as_rows(k, spec.k_dim), weights.k_norm, as_rows(k, spec.k_dim));
  const View k_heads = k.split(spec.kv_heads, spec.k_dim);
  if (spec.rope != kNoRope) step.rotate(k_heads, spec.rope);
  step.ops.kv_write({.k = k_heads,
                     .v = v.split(spec.kv_heads, spec.v_dim),
                     .kv = cache.kv,
                     .seqs = seqs,
                     .v_multiplier = spec.value_scale,
                     .stats = cache.writes},
                    step.pool);
}

void attention_layer(const StepContext& step, const AttentionSpec& spec,
                     const AttentionWeights& weights, const LayerCache& cache,
                     const AttnPlan& plan) {
  const int64_t n = step.n_tokens;
  const Scratch& scratch = step.scratch;
  const View x = scratch.normed(n);
  const View q = scratch.q(n, int64_t{spec.heads} * spec.k_dim);
  step.multiply(x, weights.q, weights.q_bias, q);
  if (spec.qk_norm) step.normalize(as_rows(q, spec.k_dim), weights.q_norm, as_rows(q, spec.k_dim));
  const View q_heads = q.split(spec.heads, spec.k_dim);
  if (spec.rope != kNoRope) step.rotate(q_heads, spec.rope);
  context_layer(step, spec, weights, cache, plan.seqs);
  const View attended = scratch.attended(n, int64_t{spec.heads} * spec.v_dim);
  step.ops.attention(plan,
                     {.q = q_heads,
                      .out = attended.split(spec.heads, spec.v_dim),
                      .kv = cache.kv,
                      .scale = spec.scale,
                      .softcap = spec.softcap,
                      .sinks = floats(weights.sinks),
                      .compute = step.cache_compute(cache.kv.dtype),
                      .workspace = scratch.workspace()},
                     step.pool);
  if (spec.output_gate) {
    const View gate = scratch.gate(n, attended.dim(1));
    step.multiply(x, weights.gate, {}, gate);
    step.ops.silu_mul(
        {.gate = gate, .up = attended, .y = attended, .gating = {.kind = GateKind::sigmoid}},
        step.pool);
  }
  step.multiply(attended, weights.o, weights.o_bias, step.output(), /*accumulate=*/true);
}

}  // namespace ashlar
