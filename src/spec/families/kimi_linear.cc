// Kimi-Linear: delta layers with a decay per key dim, and latent attention without rotation.

#include "spec/families/families.h"

namespace ashlar {
namespace {

// The config counts layers from 1, in two lists.
Status read_kinds(const ConfigReader& keys, std::vector<bool>* is_delta) {
  const auto n = static_cast<int64_t>(is_delta->size());
  std::vector<bool> seen(is_delta->size());
  for (const auto& [key, value] : {std::pair{"kda_layers", true}, {"full_attn_layers", false}}) {
    const Json* list = keys.find(key);
    if (list == nullptr || !list->is_array()) return keys.reject(key, "expected a list of layers");
    for (const Json& number : list->as_array()) {
      if (!number.is_int() || number.as_int() < 1 || number.as_int() > n) {
        return keys.reject(key, fmt::format("expected layers from 1 to {}", n));
      }
      const auto i = static_cast<size_t>(number.as_int() - 1);
      if (seen[i]) return keys.reject(key, fmt::format("layer {} stands twice", i + 1));
      seen[i] = true;
      (*is_delta)[i] = value;
    }
  }
  for (size_t i = 0; i < seen.size(); ++i) {
    if (!seen[i]) return keys.reject("kda_layers", fmt::format("layer {} is in no list", i + 1));
  }
  return {};
}

Result<StateSpec> read_delta(const ConfigReader& config, const ConfigReader& keys) {
  StateSpec state{.recurrence = Recurrence::channel_delta};
  TRY(state.heads, keys.integer("num_heads", 1, 4096));
  TRY(state.value_dim, keys.integer("head_dim", 1, 4096));
  TRY(state.conv_kernel, keys.integer("short_conv_kernel_size", 1, 64));
  state.key_heads = state.heads;
  state.key_dim = state.value_dim;
  TRY_STATUS(read_state_dtypes(config, &state));
  return state;
}

}  // namespace

Result<ModelSpec> read_kimi_linear(const ConfigReader& config) {
  TRY(ModelSpec model, read_common(config, "rms_norm_eps", 1e-5));
  TRY(model.max_positions, config.integer_or("model_max_length", model.max_positions));
  TRY(const bool nope, config.boolean_or("mla_use_nope", false));
  if (!nope) return config.refuse("mla_use_nope", "only true is known");
  TRY(LatentSpec latent, read_latent(config));
  latent.rope = kNoRope;
  TRY(const ConfigReader linear, config.object("linear_attn_config"));
  TRY(const StateSpec delta, read_delta(config, linear));
  std::vector<bool> is_delta(model.layers.size());
  TRY_STATUS(read_kinds(linear, &is_delta));
  for (size_t i = 0; i < model.layers.size(); ++i) {
    model.layers[i].mixer = is_delta[i] ? Mixer(delta) : Mixer(latent);
  }
  return model;
}

}  // namespace ashlar
