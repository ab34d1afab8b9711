// Qwen3 (dense): grouped-query attention with a norm on every q and k head; some layers may be
// windowed.

#include "spec/families/families.h"
#include "spec/rope.h"

namespace ashlar {
namespace {

// One window per layer (0: full): `layer_types` where given, else layers from max_window_layers on.
Result<std::vector<int32_t>> read_windows(const ConfigReader& config, size_t n_layers) {
  std::vector<int32_t> windows(n_layers, 0);
  TRY(const bool windowed, config.boolean_or("use_sliding_window", false));
  if (!windowed || !config.has("sliding_window")) return windows;
  TRY(const int32_t window, config.integer("sliding_window"));
  TRY(const int32_t first, config.integer_or("max_window_layers", 28, 0));
  for (size_t i = static_cast<size_t>(first); i < n_layers; ++i) windows[i] = window;
  if (!config.has("layer_types")) return windows;
  TRY(const std::vector<std::string> types,
      read_layer_types(config, "layer_types", n_layers, {"full_attention", "sliding_attention"}));
  for (size_t i = 0; i < n_layers; ++i) {
    windows[i] = types[i] == "sliding_attention" ? window : 0;
  }
  return windows;
}

}  // namespace

Result<ModelSpec> read_qwen3(const ConfigReader& config) {
  if (config.has("dflash_config")) return read_dflash(config);
  TRY(ModelSpec model, read_common(config, "rms_norm_eps", 1e-6));
  TRY(AttentionSpec attention, read_attention(config, 128));
  attention.qk_norm = true;
  TRY(RopeSpec rope, read_rope(config, attention.k_dim, 10000, model.max_positions));
  model.ropes = {std::move(rope)};
  TRY(const DenseMlp mlp, read_dense_mlp(config));
  TRY(const std::vector<int32_t> windows, read_windows(config, model.layers.size()));
  for (size_t i = 0; i < model.layers.size(); ++i) {
    attention.window = windows[i];
    model.layers[i] = {.mixer = attention, .mlp = mlp};
  }
  return model;
}

}  // namespace ashlar
