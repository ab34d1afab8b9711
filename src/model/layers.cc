#include "model/layers.h"

namespace ashlar {
namespace {

// [T, heads * dim] seen as [T, heads, dim], and as one head per row.
View as_heads(const View& x, int64_t heads, int64_t dim) {
  return View(x.data, x.dtype, {x.dim(0), heads, dim});
}
View as_rows(const View& x, int64_t dim) {
  return View(x.data, x.dtype, {x.shape.elements() / dim, dim});
}

const float* floats(const ConstView& vector) { return vector ? vector.row<float>(0) : nullptr; }

}  // namespace

void StepContext::multiply(ConstView x, const ConstView& w, const ConstView& bias, View y,
                           bool accumulate) const {
  ops.gemm({.x = x,
            .w = w,
            .bias = floats(bias),
            .y = y,
            .accumulate = accumulate,
            .compute = w.dtype == DType::bf16 ? compute : DType::f32,
            .workspace = scratch.workspace()},
           pool);
}

void StepContext::normalize(ConstView x, const ConstView& weight, View y) const {
  ops.rms_norm({.x = x, .weight = floats(weight), .eps = spec.norm_eps, .y = y}, pool);
}

void attention_layer(const StepContext& step, const AttentionSpec& spec,
                     const LayerWeights& weights, const LayerCache& cache, const AttnPlan& plan) {
  const int64_t n = step.n_tokens;
  const Scratch& scratch = step.scratch;
  const View x = scratch.normed(n);
  const View q = scratch.q(n, int64_t{spec.heads} * spec.k_dim);
  const View k = scratch.k(n, int64_t{spec.kv_heads} * spec.k_dim);
  const View v = scratch.v(n, int64_t{spec.kv_heads} * spec.v_dim);
  step.multiply(x, weights.q, weights.q_bias, q);
  step.multiply(x, weights.k, weights.k_bias, k);
  step.multiply(x, weights.v, weights.v_bias, v);
  if (spec.qk_norm) {
    step.normalize(as_rows(q, spec.k_dim), weights.q_norm, as_rows(q, spec.k_dim));
    step.normalize(as_rows(k, spec.k_dim), weights.k_norm, as_rows(k, spec.k_dim));
  }
  const RopeSpec& rope = step.spec.ropes[static_cast<size_t>(spec.rope)];
  const ConstView cos_sin = scratch.cos_sin(static_cast<size_t>(spec.rope), n);
  const auto pairing =
      rope.style == RopeStyle::halves ? RopePairing::halves : RopePairing::interleaved;
  const View q_heads = as_heads(q, spec.heads, spec.k_dim);
  const View k_heads = as_heads(k, spec.kv_heads, spec.k_dim);
  step.ops.rope({.x = q_heads, .cos_sin = cos_sin, .pairing = pairing}, step.pool);
  step.ops.rope({.x = k_heads, .cos_sin = cos_sin, .pairing = pairing}, step.pool);
  step.ops.kv_write({.k = k_heads,
                     .v = as_heads(v, spec.kv_heads, spec.v_dim),
                     .kv = cache.kv,
                     .seqs = plan.seqs,
                     .v_multiplier = spec.value_scale},
                    step.pool);
  const View attended = scratch.attended(n, int64_t{spec.heads} * spec.v_dim);
  step.ops.attention(plan,
                     {.q = q_heads,
                      .out = as_heads(attended, spec.heads, spec.v_dim),
                      .kv = cache.kv,
                      .scale = spec.scale,
                      .softcap = spec.softcap,
                      .sinks = floats(weights.sinks),
                      .compute = cache.kv.dtype == DType::bf16 ? step.compute : DType::f32,
                      .workspace = scratch.workspace()},
                     step.pool);
  step.multiply(attended, weights.o, weights.o_bias, scratch.hidden(n), /*accumulate=*/true);
}

void dense_mlp_layer(const StepContext& step, const DenseMlp& spec, const LayerWeights& weights) {
  const int64_t n = step.n_tokens;
  const View x = step.scratch.normed(n);
  const View gate = step.scratch.gate(n, spec.intermediate);
  const View up = step.scratch.up(n, spec.intermediate);
  step.multiply(x, weights.gate, weights.gate_bias, gate);
  step.multiply(x, weights.up, weights.up_bias, up);
  step.ops.silu_mul({.gate = gate, .up = up, .y = gate}, step.pool);
  step.multiply(gate, weights.down, weights.down_bias, step.scratch.hidden(n), /*accumulate=*/true);
}

void moe_mlp_layer(const StepContext& step, const MoeMlp& spec, const LayerWeights& weights,
                   std::span<const ExpertWeights> experts) {
  const int64_t n = step.n_tokens;
  const View x = step.scratch.normed(n);
  const View logits = step.scratch.gate(n, spec.n_experts);
  // A near tie between experts must not be decided by rounding, so the router is always float.
  step.ops.gemm({.x = x,
                 .w = weights.router,
                 .y = logits,
                 .compute = DType::f32,
                 .workspace = step.scratch.workspace()},
                step.pool);
  const View ids = step.scratch.expert_ids(n, spec.top_k);
  const View shares = step.scratch.expert_weights(n, spec.top_k);
  route({.logits = logits,
         .correction_bias = floats(weights.correction_bias),
         .score = spec.score == ExpertScore::sigmoid ? RouterScore::sigmoid : RouterScore::softmax,
         .top_k = spec.top_k,
         .n_group = spec.n_group,
         .topk_group = spec.topk_group,
         .normalize = spec.normalize,
         .scaling = spec.scaling,
         .ids = ids,
         .weights = shares},
        step.pool);
  const bool bf16 = experts.front().gate.dtype == DType::bf16;
  step.ops.experts({.x = x,
                    .ids = ids,
                    .weights = shares,
                    .experts = experts,
                    .y = step.scratch.hidden(n),
                    .compute = bf16 ? step.compute : DType::f32,
                    .workspace = step.scratch.workspace()},
                   step.pool);
}

}  // namespace ashlar
