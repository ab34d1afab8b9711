#pragma once

// The layers of a decoder, each a function that reads like the formula: x += f(norm(x)). A layer
// sees its spec, its weights and views; it does not know requests, pages' owners or families.

#include "kernels/ops.h"
#include "model/absorb.h"
#include "model/scratch.h"
#include "model/step.h"
#include "spec/weights.h"

namespace ashlar {

using AttentionWeights = AttentionTree<Matrix>;
using LatentWeights = LatentTree<Matrix>;
using StateWeights = StateTree<Matrix>;
using MlpWeights = MlpTree<Matrix>;
using MoeWeights = MoeTree<Matrix>;

// The numbers of a vector weight; null when it is absent.
inline const float* floats(const ConstView& vector) {
  return vector ? vector.row<float>(0) : nullptr;
}

// What every layer of one step shares.
struct StepContext {
  const ModelSpec& spec;
  const Ops& ops;
  Pool& pool;
  const Scratch& scratch;
  DType compute = DType::bf16;  // of products with bf16 matrices
  int64_t n_tokens = 0;

  // A branch of the residual stream: begin leaves norm(hidden) in Scratch::normed, the layer adds
  // to output(), end adds that, normalised, where a branch has a norm of its own; elsewhere
  // output() is the stream itself.
  void begin_branch(const ConstView& norm) const;
  View output() const {
    return spec.branch_norms ? scratch.branch(n_tokens) : scratch.hidden(n_tokens);
  }
  void end_branch(const ConstView& post_norm) const;

  // y (+)= x w^T (+ bias), computed as the weights and `compute` allow.
  void multiply(ConstView x, const Matrix& w, const ConstView& bias, View y,
                bool accumulate = false) const;
  void normalize(ConstView x, const ConstView& weight, View y) const;
  void normalize(ConstView x, const ConstView& weight, float eps, View y) const;
  // Turns the heads' dims from `offset` on by their rows' positions.
  void rotate(const View& heads, int32_t rope, int32_t offset = 0) const;
  // What attention over pages of this type is computed in.
  DType cache_compute(DType stored) const { return fits_bf16(stored) ? compute : DType::f32; }
  // y[:, h] = x[:, h] w[h]^T for every head; x [T, H, K], w [H, N, K], y [T, H, N].
  void multiply_heads(ConstView x, const ConstView& w, View y) const;
};

// Writes K and V of `normed` at the positions of seqs, and nothing else: the first half of the
// layer below, and all that a draft does with its context.
void context_layer(const StepContext& step, const AttentionSpec& spec,
                   const AttentionWeights& weights, const LayerCache& cache,
                   std::span<const AttnSeq> seqs);

// output += o_proj(attention(normed)); the plan is the step's for this layer's group and heads.
void attention_layer(const StepContext& step, const AttentionSpec& spec,
                     const AttentionWeights& weights, const LayerCache& cache,
                     const AttnPlan& plan);

// output += o_proj(latent attention(normed)): one form, the absorbed one, for prompts and for
// decoding alike, so that how a prompt is cut changes nothing.
void latent_layer(const StepContext& step, const LatentSpec& spec, const LatentWeights& weights,
                  const AbsorbedKv& absorbed, const LayerCache& cache, const AttnPlan& plan);

// output += o_proj(recurrence(normed)). The states of `seqs` are read and replaced.
void state_layer(const StepContext& step, const StateSpec& spec, const StateWeights& weights,
                 const StateView& state, std::span<const StateSeq> seqs);

// output += mlp(normed).
void dense_mlp_layer(const StepContext& step, const DenseMlp& spec, const MlpWeights& weights);
void moe_mlp_layer(const StepContext& step, const MoeMlp& spec, const MoeWeights& weights,
                   std::span<const ExpertWeights> experts);

}  // namespace ashlar
