// DFlash drafts: a few attention layers that read hidden states of a target and propose a block of
// tokens at once. The files call themselves by the family whose layers they borrow.

#include <cmath>

#include "spec/families/families.h"
#include "spec/rope.h"

namespace ashlar {
namespace {

// `layer_types` says which layers are windowed; without it, use_swa windows them all.
Result<std::vector<int32_t>> read_windows(const ConfigReader& config, const ConfigReader& draft,
                                          size_t n) {
  std::vector<int32_t> windows(n, 0);
  if (config.has("layer_types")) {
    TRY(const std::vector<std::string> types,
        read_layer_types(config, "layer_types", n, {"full_attention", "sliding_attention"}));
    for (size_t i = 0; i < n; ++i) {
      if (types[i] == "full_attention") continue;
      TRY(windows[i], config.integer("sliding_window"));
    }
    return windows;
  }
  TRY(const bool windowed, draft.boolean_or("use_swa", false));
  if (!windowed) return windows;
  const bool own = draft.has("swa_window_size");
  TRY(const int32_t window,
      own ? draft.integer("swa_window_size") : config.integer("sliding_window"));
  windows.assign(n, window);
  return windows;
}

// Where a draft names no layers: evenly spread, without the first and the last ones.
std::vector<int32_t> default_taps(int32_t n_target, size_t n) {
  if (n == 1) return {n_target / 2};
  std::vector<int32_t> taps;
  for (size_t i = 0; i < n; ++i) {
    const double step = static_cast<double>(n_target - 4) / static_cast<double>(n - 1);
    taps.push_back(static_cast<int32_t>(std::lround(1 + static_cast<double>(i) * step)));
  }
  return taps;
}

Result<DraftSpec> read_draft(const ConfigReader& config, const ConfigReader& keys,
                             size_t n_layers) {
  DraftSpec draft;
  const bool flat = config.has("block_size");
  TRY(draft.block_tokens,
      flat ? config.integer("block_size", 2, 4096) : keys.integer("block_size", 2, 4096));
  TRY(draft.mask_token, keys.integer("mask_token_id", 0));
  if (const Json* taps = keys.find("target_layer_ids"); taps != nullptr && taps->is_array()) {
    TRY(draft.taps, keys.integers("target_layer_ids", taps->as_array().size()));
  } else if (config.has("num_target_layers")) {
    TRY(const int32_t n_target, config.integer("num_target_layers", 4, 4096));
    draft.taps = default_taps(n_target, n_layers);
  }
  return draft;
}

// Rows of a block see each other, but where layer_types windows a layer; a key may say otherwise.
Result<bool> read_causal(const ConfigReader& config, const ConfigReader& keys, int32_t window) {
  const bool by_type = config.has("layer_types") && window > 0;
  TRY(const bool whole, config.boolean_or("is_causal", by_type));
  return keys.boolean_or("causal", whole);
}

}  // namespace

Result<ModelSpec> read_dflash(const ConfigReader& config) {
  TRY(ModelSpec model, read_common(config, "rms_norm_eps", 1e-6));
  TRY(const ConfigReader keys, config.object("dflash_config"));
  TRY(model.draft, read_draft(config, keys, model.layers.size()));
  TRY(AttentionSpec attention, read_attention(config, 128));
  TRY(attention.v_dim, config.integer_or("v_head_dim", attention.k_dim, 1, 4096));
  TRY(attention.sinks, keys.boolean_or("attention_sink_bias", false));
  TRY(const double value_scale, keys.number_or("attention_value_scale", 1.0));
  attention.value_scale = static_cast<float>(value_scale);
  attention.qk_norm = true;
  TRY(RopeSpec rope, read_rope(config, attention.k_dim, 10000, model.max_positions));
  model.ropes = {std::move(rope)};
  TRY(const DenseMlp mlp, read_dense_mlp(config));
  TRY(const std::vector<int32_t> windows, read_windows(config, keys, model.layers.size()));
  for (size_t i = 0; i < model.layers.size(); ++i) {
    attention.window = windows[i];
    TRY(attention.causal, read_causal(config, keys, windows[i]));
    model.layers[i] = {.mixer = attention, .mlp = mlp};
  }
  model.plan_only = "config.json: a draft runs beside its target, by --speculative-config";
  return model;
}

}  // namespace ashlar
