#include "model/layers.h"

namespace ashlar {

namespace {

Gating gating_of(Activation activation, float clamp = 0) {
  switch (activation) {
    case Activation::silu: return {.kind = GateKind::silu};
    case Activation::gelu: return {.kind = GateKind::gelu};
    case Activation::clamped: return {.kind = GateKind::clamped, .limit = clamp};
  }
  return {};
}

// y (+)= down(gated(gate x, up x))
void gated_mlp(const StepContext& step, const DenseMlp& spec, const MlpWeights& weights,
               const View& y, bool accumulate) {
  const int64_t n = step.n_tokens;
  const View x = step.scratch.normed(n);
  const View gate = step.scratch.gate(n, spec.intermediate);
  const View up = step.scratch.up(n, spec.intermediate);
  step.multiply(x, weights.gate, weights.gate_bias, gate);
  step.multiply(x, weights.up, weights.up_bias, up);
  step.ops.silu_mul({.gate = gate, .up = up, .y = gate, .gating = gating_of(spec.activation)},
                    step.pool);
  step.multiply(gate, weights.down, weights.down_bias, y, accumulate);
}

// The MLP that every token passes, times the sigmoid of its own gate if it has one.
void shared_mlp(const StepContext& step, const MoeMlp& spec, const MoeWeights& weights) {
  const int64_t n = step.n_tokens;
  const DenseMlp mlp{.intermediate = spec.shared};
  if (!spec.shared_gate) return gated_mlp(step, mlp, weights.shared, step.output(), true);
  const View y = step.scratch.branch(n);
  CHECK(!step.spec.branch_norms, "the branch's storage would have two uses");
  gated_mlp(step, mlp, weights.shared, y, false);
  const View gate = step.scratch.gate(n, 1);
  step.multiply(step.scratch.normed(n), weights.shared_gate, {}, gate);
  add_gated(gate, y, step.output(), step.pool);
}

}  // namespace

void dense_mlp_layer(const StepContext& step, const DenseMlp& spec, const MlpWeights& weights) {
  gated_mlp(step, spec, weights, step.output(), true);
}

void moe_mlp_layer(const StepContext& step, const MoeMlp& spec, const MoeWeights& weights,
                   std::span<const ExpertWeights> experts) {
  const int64_t n = step.n_tokens;
  const View x = step.scratch.normed(n);
  const View logits = step.scratch.gate(n, spec.n_experts);
  // A near tie between experts must not be decided by rounding, so the router is always float.
  step.ops.gemm({.x = x,
                 .w = weights.router,
                 .bias = floats(weights.router_bias),
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
  const Matrix& stored = experts.front().gate;
  const bool narrow = stored.dtype == DType::bf16 || stored.quantised();
  step.ops.experts({.x = x,
                    .ids = ids,
                    .weights = shares,
                    .experts = experts,
                    .y = step.output(),
                    .compute = narrow ? step.compute : DType::f32,
                    .gating = gating_of(spec.activation, spec.clamp),
                    .workspace = step.scratch.workspace()},
                   step.pool);
  if (spec.shared > 0) shared_mlp(step, spec, weights);
}

}  // namespace ashlar
