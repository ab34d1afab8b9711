// Gemma 3: five windowed layers to one full layer, each kind with its own rope; norms before and
// after every mixer and MLP.

#include <cmath>

#include "spec/families/families.h"
#include "spec/rope.h"

namespace ashlar {
namespace {

// The full layers' rope, then the windowed ones'.
Status read_ropes(const ConfigReader& config, int32_t head_dim, ModelSpec* model) {
  if (config.has("rope_parameters")) {
    TRY(const ConfigReader by_type, config.object("rope_parameters"));
    TRY(const ConfigReader full, by_type.object("full_attention"));
    TRY(const ConfigReader window, by_type.object("sliding_attention"));
    TRY(RopeSpec full_rope, read_rope_keys(full, head_dim, 1e6, model->max_positions));
    TRY(RopeSpec window_rope, read_rope_keys(window, head_dim, 1e4, model->max_positions));
    model->ropes = {std::move(full_rope), std::move(window_rope)};
    return {};
  }
  TRY(RopeSpec full_rope, read_rope(config, head_dim, 1e6, model->max_positions));
  TRY(const double local, config.number("rope_local_base_freq"));
  if (!(local > 1)) return config.reject("rope_local_base_freq", "must exceed 1");
  model->ropes = {std::move(full_rope), {.inv_freq = rope_frequencies(local, head_dim)}};
  return {};
}

// What other models of the family have, and these do not.
Status refuse_others(const ConfigReader& config) {
  TRY_STATUS(config.require_text("hidden_activation", "gelu_pytorch_tanh", {"gelu_pytorch_tanh"}));
  for (const char* key : {"attn_logit_softcapping", "final_logit_softcapping"}) {
    if (config.has(key)) return config.refuse(key, "this family has none");
  }
  TRY(const bool both_ways, config.boolean_or("use_bidirectional_attention", false));
  if (both_ways) return config.refuse("use_bidirectional_attention", "supported: false");
  return {};
}

}  // namespace

Result<ModelSpec> read_gemma3(const ConfigReader& config) {
  TRY(ModelSpec model, read_common(config, "rms_norm_eps", 1e-6));
  TRY_STATUS(refuse_others(config));
  model.centred_norms = true;
  model.branch_norms = true;
  model.embedding_scale = std::sqrt(static_cast<float>(model.hidden));
  DenseMlp mlp{.activation = Activation::gelu};
  TRY(mlp.intermediate, config.integer("intermediate_size", 1, 1 << 24));
  TRY(AttentionSpec full, read_attention(config));
  full.qk_norm = true;
  TRY(const double scalar, config.number("query_pre_attn_scalar"));
  if (!(scalar > 0)) return config.reject("query_pre_attn_scalar", "must exceed 0");
  full.scale = static_cast<float>(1.0 / std::sqrt(scalar));
  AttentionSpec window = full;
  window.rope = 1;
  TRY(window.window, config.integer("sliding_window"));
  TRY_STATUS(read_ropes(config, full.k_dim, &model));
  TRY(const std::vector<bool> is_full,
      read_full_layers(config, model.layers.size(), "sliding_attention", "sliding_window_pattern"));
  for (size_t i = 0; i < model.layers.size(); ++i) {
    model.layers[i] = {.mixer = is_full[i] ? full : window, .mlp = mlp};
  }
  return model;
}

}  // namespace ashlar
