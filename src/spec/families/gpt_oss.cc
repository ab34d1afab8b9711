// gpt-oss: every other layer windowed, sinks and biases in all of them.

#include "spec/families/families.h"
#include "spec/rope.h"

namespace ashlar {

Result<ModelSpec> read_gpt_oss(const ConfigReader& config) {
  TRY(ModelSpec model, read_common(config, "rms_norm_eps", 1e-5));
  TRY(AttentionSpec full, read_attention(config, 64));
  full.sinks = true;
  AttentionSpec window = full;
  TRY(window.window, config.integer("sliding_window"));
  TRY(RopeSpec rope, read_rope(config, full.k_dim, 150000, model.max_positions));
  model.ropes = {std::move(rope)};
  std::vector<bool> is_full(model.layers.size());
  for (size_t i = 0; i < is_full.size(); ++i) is_full[i] = i % 2 == 1;
  if (config.has("layer_types")) {
    TRY(const std::vector<std::string> types,
        read_layer_types(config, "layer_types", is_full.size(),
                         {"sliding_attention", "full_attention"}));
    for (size_t i = 0; i < is_full.size(); ++i) is_full[i] = types[i] == "full_attention";
  }
  for (size_t i = 0; i < is_full.size(); ++i) model.layers[i].mixer = is_full[i] ? full : window;
  return model;
}

}  // namespace ashlar
