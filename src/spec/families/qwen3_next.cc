// Qwen3-Next and Qwen3.5: Gated DeltaNet, and every fourth layer gated full attention.

#include <algorithm>

#include "spec/families/families.h"
#include "spec/rope.h"

namespace ashlar {
namespace {

Result<StateSpec> read_delta(const ConfigReader& config) {
  StateSpec state{.recurrence = Recurrence::delta};
  TRY(state.heads, config.integer("linear_num_value_heads", 1, 4096));
  TRY(state.key_heads, config.integer("linear_num_key_heads", 1, 4096));
  TRY(state.value_dim, config.integer("linear_value_head_dim", 1, 4096));
  TRY(state.key_dim, config.integer("linear_key_head_dim", 1, 4096));
  TRY(state.conv_kernel, config.integer("linear_conv_kernel_dim", 1, 64));
  if (state.heads % state.key_heads != 0) {
    return config.reject("linear_num_value_heads", "must be a multiple of linear_num_key_heads");
  }
  TRY_STATUS(read_state_dtypes(config, &state));
  return state;
}

Result<MoeMlp> read_moe(const ConfigReader& config) {
  TRY_STATUS(config.require_text("hidden_act", "silu", {"silu"}));
  MoeMlp moe{.score = ExpertScore::softmax};
  TRY(moe.n_experts, config.integer("num_experts", 1, 65536));
  TRY(moe.top_k, config.integer("num_experts_per_tok", 1, 256));
  TRY(moe.intermediate, config.integer("moe_intermediate_size", 1, 1 << 24));
  TRY(moe.shared, config.integer("shared_expert_intermediate_size", 1, 1 << 24));
  TRY(moe.normalize, config.boolean_or("norm_topk_prob", true));
  moe.shared_gate = true;
  return moe;
}

// Routed, except where a layer is listed as dense or its number says so.
Status read_mlps(const ConfigReader& config, ModelSpec* model) {
  const bool routed = config.has("num_experts");
  TRY(const int32_t step, config.integer_or("decoder_sparse_step", 1));
  std::vector<int32_t> listed;
  if (const Json* list = config.find("mlp_only_layers"); list != nullptr && list->is_array()) {
    TRY(listed, config.integers("mlp_only_layers", list->as_array().size()));
  }
  for (size_t i = 0; i < model->layers.size(); ++i) {
    const auto number = static_cast<int32_t>(i);
    const bool dense = !routed || (number + 1) % step != 0 ||
                       std::find(listed.begin(), listed.end(), number) != listed.end();
    if (dense) {
      TRY(model->layers[i].mlp, read_dense_mlp(config));
    } else {
      TRY(model->layers[i].mlp, read_moe(config));
    }
  }
  return {};
}

}  // namespace

Result<ModelSpec> read_qwen3_next(const ConfigReader& config) {
  TRY(ModelSpec model, read_common(config, "rms_norm_eps", 1e-6));
  TRY(AttentionSpec attention, read_attention(config, 256));
  attention.qk_norm = true;
  TRY(attention.output_gate, config.boolean_or("attn_output_gate", true));
  TRY(RopeSpec rope, read_rope(config, attention.k_dim, 1e7, model.max_positions));
  model.ropes = {std::move(rope)};
  TRY(const StateSpec delta, read_delta(config));
  TRY(const std::vector<bool> full,
      read_full_layers(config, model.layers.size(), "linear_attention", "full_attention_interval"));
  for (size_t i = 0; i < model.layers.size(); ++i) {
    model.layers[i].mixer = full[i] ? Mixer(attention) : Mixer(delta);
  }
  TRY_STATUS(read_mlps(config, &model));
  model.centred_norms = true;
  model.ignored_prefixes = {"mtp."};
  return model;
}

}  // namespace ashlar
