// What no family may produce: sizes that do not fit each other or that no kernel takes.

#include <cmath>

#include "spec/families/families.h"

namespace ashlar {
namespace {

// The most queries that share one KV head in any kernel.
constexpr int32_t kMaxGroup = 64;

// Matrices of all experts. The largest published models have some 70,000; each is a row in memory.
constexpr int64_t kMaxExpertMatrices = 1 << 17;

Status validate_scale(float scale, size_t layer) {
  if (std::isfinite(scale) && scale > 0) return {};
  return invalid("config.json: layer {}: logits would be scaled by {}", layer, scale);
}

Status validate_attention(const ModelSpec& model, const AttentionSpec& attention, size_t layer) {
  if (attention.k_dim < 1) {  // hidden_size / num_attention_heads, where head_dim is absent
    return invalid("config.json: layer {}: hidden size {} leaves nothing for each of {} heads",
                   layer, model.hidden, attention.heads);
  }
  if (attention.heads % attention.kv_heads != 0) {
    return invalid("config.json: layer {}: {} query heads do not divide among {} KV heads", layer,
                   attention.heads, attention.kv_heads);
  }
  if (attention.heads / attention.kv_heads > kMaxGroup) {
    return unsupported(
        "config.json: layer {}: {} query heads per KV head: at most {} are supported", layer,
        attention.heads / attention.kv_heads, kMaxGroup);
  }
  TRY_STATUS(validate_scale(attention.scale, layer));
  if (attention.window > 0 && attention.chunk > 0) {
    return invalid("config.json: layer {}: both a window of {} and chunks of {}", layer,
                   attention.window, attention.chunk);
  }
  if (attention.rope == kNoRope) return {};
  const RopeSpec& rope = model.ropes[static_cast<size_t>(attention.rope)];
  if (2 * rope.inv_freq.size() > static_cast<size_t>(attention.k_dim)) {
    return invalid("config.json: layer {}: {} rotary dims exceed the head's {}", layer,
                   2 * rope.inv_freq.size(), attention.k_dim);
  }
  return {};
}

}  // namespace

Status validate(const ModelSpec& model) {
  int64_t n_expert_matrices = 0;
  for (size_t i = 0; i < model.layers.size(); ++i) {
    if (const auto* attention = std::get_if<AttentionSpec>(&model.layers[i].mixer)) {
      TRY_STATUS(validate_attention(model, *attention, i));
    } else if (const auto* latent = std::get_if<LatentSpec>(&model.layers[i].mixer)) {
      TRY_STATUS(validate_scale(latent->scale, i));
    }
    const auto* moe = std::get_if<MoeMlp>(&model.layers[i].mlp);
    if (moe == nullptr) continue;
    if (moe->top_k > moe->n_experts || moe->n_experts % moe->n_group != 0 ||
        moe->topk_group > moe->n_group) {
      return invalid(
          "config.json: layer {}: top {} of {} experts in {} groups, {} groups kept: not "
          "consistent",
          i, moe->top_k, moe->n_experts, moe->n_group, moe->topk_group);
    }
    if (moe->top_k > moe->n_experts / moe->n_group * moe->topk_group) {
      return invalid("config.json: layer {}: top {} experts but the kept groups hold {}", i,
                     moe->top_k, moe->n_experts / moe->n_group * moe->topk_group);
    }
    n_expert_matrices += 3 * int64_t{moe->n_experts};
  }
  if (n_expert_matrices > kMaxExpertMatrices) {
    return unsupported("config.json: {} expert matrices in {} layers: at most {} are supported",
                       n_expert_matrices, model.layers.size(), kMaxExpertMatrices);
  }
  return {};
}

}  // namespace ashlar
