// Bamba and Granite 4 hybrids: Mamba-2 layers and a few of full attention, an MLP in each.

#include "spec/families/families.h"
#include "spec/rope.h"

namespace ashlar {

Result<ModelSpec> read_bamba(const ConfigReader& config) {
  TRY(ModelSpec model, read_common(config, "rms_norm_eps", 1e-5));
  TRY(const AttentionSpec attention, read_attention(config));
  TRY(const int32_t rotated, config.integer_or("attn_rotary_emb", attention.k_dim, 1, 4096));
  if (rotated > attention.k_dim) return config.reject("attn_rotary_emb", "exceeds the head");
  TRY(RopeSpec rope, read_rope(config, rotated, 10000, model.max_positions));
  model.ropes = {std::move(rope)};
  TRY(const StateSpec scan, read_head_scan(config, {}));
  for (LayerSpec& layer : model.layers) layer.mixer = scan;
  const Json* list = config.find("attn_layer_indices");
  if (list == nullptr) return model;
  const auto n = static_cast<int64_t>(model.layers.size());
  if (!list->is_array()) return config.reject("attn_layer_indices", "expected a list of layers");
  for (const Json& index : list->as_array()) {
    if (!index.is_int() || index.as_int() < 0 || index.as_int() >= n) {
      return config.reject("attn_layer_indices", fmt::format("expected layers below {}", n));
    }
    model.layers[static_cast<size_t>(index.as_int())].mixer = attention;
  }
  return model;
}

Result<ModelSpec> read_granite_hybrid(const ConfigReader& config) {
  TRY(ModelSpec model, read_common(config, "rms_norm_eps", 1e-5));
  TRY(AttentionSpec attention, read_attention(config));
  TRY(const double scale, config.number_or("attention_multiplier", attention.scale));
  attention.scale = static_cast<float>(scale);
  TRY_STATUS(config.require_text("position_embedding_type", "nope", {"nope", "rope"}));
  TRY(const std::string position, config.text_or("position_embedding_type", "nope"));
  if (position == "nope") {
    attention.rope = kNoRope;
  } else {
    TRY(RopeSpec rope, read_rope(config, attention.k_dim, 10000, model.max_positions));
    model.ropes = {std::move(rope)};
  }
  TRY(const StateSpec scan, read_head_scan(config, {}));
  TRY(const std::vector<std::string> types,
      read_layer_types(config, "layer_types", model.layers.size(), {"mamba", "attention"}));
  for (size_t i = 0; i < model.layers.size(); ++i) {
    model.layers[i].mixer = types[i] == "mamba" ? Mixer(scan) : Mixer(attention);
  }
  return model;
}

}  // namespace ashlar
