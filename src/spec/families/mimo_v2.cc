// MiMo-V2: full and sliding-window layers of different KV heads, K wider than V, sinks on the
// windowed ones, scaled values, sigmoid-routed experts.
//
// Two spellings of one model. transformers writes `layer_types`, `mlp_layer_types` and per-type
// `rope_parameters`, and doubles the KV heads of windowed layers; the hub's files write
// `hybrid_layer_pattern`, `moe_layer_freq`, `swa_*` keys and flat thetas. Keys present decide.

#include <cmath>

#include "spec/families/families.h"
#include "spec/rope.h"

namespace ashlar {
namespace {

// Which layers are windowed (or sparse), from a list of names or a list of 0 and 1.
Result<std::vector<bool>> read_pattern(const ConfigReader& config, std::string_view names_key,
                                       std::string_view off, std::string_view on,
                                       std::string_view bits_key, std::vector<bool> fallback) {
  const size_t n = fallback.size();
  if (config.has(names_key)) {
    TRY(const std::vector<std::string> names, config.texts(names_key, n));
    for (size_t i = 0; i < n; ++i) {
      if (names[i] != off && names[i] != on) {
        return config.refuse(names_key, fmt::format("supported: \"{}\", \"{}\"", off, on));
      }
      fallback[i] = names[i] == on;
    }
  } else if (config.has(bits_key)) {
    TRY(const std::vector<int32_t> bits, config.integers(bits_key, n));
    for (size_t i = 0; i < n; ++i) {
      if (bits[i] != 0 && bits[i] != 1) return config.reject(bits_key, "expected only 0 and 1");
      fallback[i] = bits[i] == 1;
    }
  }
  return fallback;
}

// transformers' defaults where the lists are absent: full at 0 and every sixth, dense at 0.
std::vector<bool> default_windowed(size_t n) {
  std::vector<bool> windowed(n);
  for (size_t i = 0; i < n; ++i) windowed[i] = i != 0 && (i + 1) % 6 != 0;
  return windowed;
}

std::vector<bool> default_sparse(size_t n) {
  std::vector<bool> sparse(n, true);
  sparse[0] = false;
  return sparse;
}

Result<RopeSpec> read_layer_rope(const ConfigReader& config, bool windowed, int32_t k_dim) {
  const double default_theta = windowed ? 1e4 : 5e6;
  double theta = 0, fraction = 0;
  if (config.has("rope_parameters")) {
    TRY(const ConfigReader by_type, config.object("rope_parameters"));
    TRY(const ConfigReader keys, by_type.object(windowed ? "sliding_attention" : "full_attention"));
    TRY_STATUS(keys.require_text("rope_type", "default", {"default"}));
    TRY(theta, keys.number_or("rope_theta", default_theta));
    TRY(fraction, keys.number_or("partial_rotary_factor", 0.334));
  } else {
    if (config.has("rope_scaling")) {
      TRY(const ConfigReader scaling, config.object("rope_scaling"));
      const char* type = scaling.has("rope_type") ? "rope_type" : "type";
      if (!scaling.require_text(type, "default", {"default"})) {
        return config.refuse("rope_scaling", "this family has none");
      }
    }
    TRY(theta, config.number_or(windowed ? "swa_rope_theta" : "rope_theta", default_theta));
    TRY(fraction, config.number_or("partial_rotary_factor", 0.334));
  }
  if (!(theta > 1)) return config.reject("rope_theta", "must exceed 1");
  if (!(fraction > 0 && fraction <= 1))
    return config.reject("partial_rotary_factor", "must be in (0, 1]");
  return RopeSpec{.inv_freq = rope_frequencies(theta, static_cast<int32_t>(k_dim * fraction))};
}

// The attention of full (windowed = false) or windowed layers; `swa_` keys default to the full
// layers'.
Result<AttentionSpec> read_kind(const ConfigReader& config, bool windowed) {
  AttentionSpec full;
  TRY(full.heads, config.integer("num_attention_heads", 1, 4096));
  TRY(full.kv_heads, config.integer("num_key_value_heads", 1, 4096));
  TRY(full.k_dim, config.integer_or("head_dim", 192, 1, 4096));
  TRY(full.v_dim, config.integer_or("v_head_dim", 128, 1, 4096));
  // null says that values are not scaled; absent is the family's default.
  const double default_scale = config.is_null("attention_value_scale") ? 1.0 : 0.707;
  TRY(const double value_scale, config.number_or("attention_value_scale", default_scale));
  full.value_scale = static_cast<float>(value_scale);
  TRY(full.qkv_bias, config.boolean_or("attention_bias", false));
  TRY(full.sinks, config.boolean_or("add_full_attention_sink_bias", false));
  AttentionSpec attention = full;
  if (windowed) {
    const bool hub = config.has("hybrid_layer_pattern");
    TRY(attention.heads, config.integer_or("swa_num_attention_heads", full.heads, 1, 4096));
    TRY(attention.kv_heads, config.integer_or("swa_num_key_value_heads",
                                              hub ? full.kv_heads : 2 * full.kv_heads, 1, 4096));
    TRY(attention.k_dim, config.integer_or("swa_head_dim", full.k_dim, 1, 4096));
    TRY(attention.v_dim, config.integer_or("swa_v_head_dim", full.v_dim, 1, 4096));
    TRY(attention.sinks, config.boolean_or("add_swa_attention_sink_bias", true));
    const bool short_key = config.has("sliding_window");
    TRY(attention.window, config.integer(short_key ? "sliding_window" : "sliding_window_size"));
    attention.rope = 1;
  }
  attention.scale = 1.0f / std::sqrt(static_cast<float>(attention.k_dim));
  return attention;
}

Result<MoeMlp> read_moe(const ConfigReader& config) {
  TRY_STATUS(config.require_text("scoring_func", "sigmoid", {"sigmoid"}));
  TRY_STATUS(config.require_text("topk_method", "noaux_tc", {"noaux_tc"}));
  if (config.has("n_shared_experts")) {
    TRY(const int32_t shared, config.integer("n_shared_experts", 0));
    if (shared != 0) return config.refuse("n_shared_experts", "this family has none");
  }
  MoeMlp moe{.score = ExpertScore::sigmoid, .correction_bias = true};
  TRY(moe.n_experts, config.integer("n_routed_experts", 1, 65536));
  TRY(moe.top_k, config.integer("num_experts_per_tok", 1, 256));
  TRY(moe.intermediate, config.integer("moe_intermediate_size", 1, 1 << 24));
  TRY(moe.n_group, config.integer_or("n_group", 1));
  TRY(moe.topk_group, config.integer_or("topk_group", 1));
  TRY(moe.normalize, config.boolean_or("norm_topk_prob", true));
  TRY(const double scaling, config.number_or("routed_scaling_factor", 1.0));
  moe.scaling = static_cast<float>(scaling);
  return moe;
}

}  // namespace

Result<ModelSpec> read_mimo_v2(const ConfigReader& config) {
  const char* eps_key = config.has("layernorm_epsilon") ? "layernorm_epsilon" : "rms_norm_eps";
  TRY(ModelSpec model, read_common(config, eps_key, 1e-5));
  TRY_STATUS(config.require_text("attention_projection_layout", "split", {"split", "fused_qkv"}));
  TRY(const std::string projections, config.text_or("attention_projection_layout", "split"));
  const size_t n = model.layers.size();
  TRY(const std::vector<bool> windowed,
      read_pattern(config, "layer_types", "full_attention", "sliding_attention",
                   "hybrid_layer_pattern", default_windowed(n)));
  TRY(const std::vector<bool> sparse, read_pattern(config, "mlp_layer_types", "dense", "sparse",
                                                   "moe_layer_freq", default_sparse(n)));
  TRY(AttentionSpec full, read_kind(config, false));
  TRY(AttentionSpec window, read_kind(config, true));
  full.fused_qkv = window.fused_qkv = projections == "fused_qkv";
  if (full.fused_qkv && full.qkv_bias) {
    return config.refuse("attention_bias", "fused projections have none");
  }
  TRY(RopeSpec full_rope, read_layer_rope(config, false, full.k_dim));
  TRY(RopeSpec window_rope, read_layer_rope(config, true, window.k_dim));
  model.ropes = {std::move(full_rope), std::move(window_rope)};
  for (size_t i = 0; i < n; ++i) {
    model.layers[i].mixer = windowed[i] ? window : full;
    if (sparse[i]) {
      TRY(model.layers[i].mlp, read_moe(config));
    } else {
      TRY(model.layers[i].mlp, read_dense_mlp(config));
    }
  }
  model.ignored_prefixes = {"model.mtp.", "visual.", "audio_encoder.", "speech_embeddings."};
  return model;
}

}  // namespace ashlar
