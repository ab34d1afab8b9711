// DFlash drafts: a few attention layers that read hidden states of a target and propose a block of
// tokens at once. The files call themselves by the family whose layers they borrow.

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

Result<DraftSpec> read_draft(const ConfigReader& config, const ConfigReader& keys) {
  DraftSpec draft;
  const bool flat = config.has("block_size");
  TRY(draft.block_tokens,
      flat ? config.integer("block_size", 2, 4096) : keys.integer("block_size", 2, 4096));
  TRY(draft.mask_token, keys.integer("mask_token_id", 0));
  if (const Json* taps = keys.find("target_layer_ids"); taps != nullptr && taps->is_array()) {
    TRY(draft.taps, keys.integers("target_layer_ids", taps->as_array().size()));
  }
  return draft;
}

}  // namespace

Result<ModelSpec> read_dflash(const ConfigReader& config) {
  TRY(ModelSpec model, read_common(config, "rms_norm_eps", 1e-6));
  TRY(const ConfigReader keys, config.object("dflash_config"));
  TRY(model.draft, read_draft(config, keys));
  TRY(AttentionSpec attention, read_attention(config, 128));
  TRY(attention.v_dim, config.integer_or("v_head_dim", attention.k_dim, 1, 4096));
  TRY(attention.sinks, keys.boolean_or("attention_sink_bias", false));
  attention.qk_norm = true;
  TRY(RopeSpec rope, read_rope(config, attention.k_dim, 10000, model.max_positions));
  model.ropes = {std::move(rope)};
  TRY(const std::vector<int32_t> windows, read_windows(config, keys, model.layers.size()));
  for (size_t i = 0; i < model.layers.size(); ++i) {
    attention.window = windows[i];
    model.layers[i].mixer = attention;
  }
  model.plan_only = config.refuse("dflash_config", "drafts can be planned, not run yet").text;
  return model;
}

}  // namespace ashlar
