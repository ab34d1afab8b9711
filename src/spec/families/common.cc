// What several families read the same way.

#include <algorithm>
#include <cmath>

#include "spec/families/families.h"

namespace ashlar {
namespace {

Status read_eos(const ConfigReader& config, std::vector<int32_t>* eos) {
  const Json* value = config.find("eos_token_id");
  if (value == nullptr) return {};
  const Json::Array list = value->is_array() ? value->as_array() : Json::Array{*value};
  for (const Json& id : list) {
    if (!id.is_int() || id.as_int() < 0 || id.as_int() > (1 << 30)) {
      return config.reject("eos_token_id", "expected a token id or a list of them");
    }
    eos->push_back(static_cast<int32_t>(id.as_int()));
  }
  return {};
}

// Names in one of two keys; patterns and what is no text name nothing we look for.
std::vector<std::string> read_exempt(const ConfigReader& config) {
  std::vector<std::string> names;
  for (const char* key : {"ignored_layers", "modules_to_not_convert"}) {
    const Json* list = config.find(key);
    if (list == nullptr || !list->is_array()) continue;
    for (const Json& name : list->as_array()) {
      if (name.is_string()) names.push_back(name.as_string());
    }
  }
  return names;
}

// FP8 in blocks of 128 x 128 is what products take. Activations stay what they are, so how their
// own scales were meant to be found does not matter if they are found at run time.
Result<QuantizationSpec> read_quantization(const ConfigReader& config) {
  QuantizationSpec spec;
  TRY(spec.method, config.text_or("quant_method", "unnamed"));
  spec.exempt = read_exempt(config);
  const auto must_be = [&](const char* key, std::string_view absent_is,
                           std::initializer_list<std::string_view> values) {
    const Status fits = config.require_text(key, absent_is, values);
    if (!fits && spec.refusal.empty()) spec.refusal = fits.error().text;
  };
  must_be("quant_method", "unnamed", {"fp8", "mxfp4"});
  if (spec.method != "fp8") return spec;
  must_be("fmt", "e4m3", {"e4m3"});
  must_be("activation_scheme", "dynamic", {"dynamic"});
  must_be("store_dtype", "fp8", {"fp8"});
  const auto block = config.integers("weight_block_size", 2);
  if (spec.refusal.empty() && (!block || (*block)[0] != 128 || (*block)[1] != 128)) {
    spec.refusal = config.refuse("weight_block_size", "supported: [128,128]").text;
  }
  return spec;
}

}  // namespace

Result<ModelSpec> read_common(const ConfigReader& config, std::string_view eps_key,
                              double default_eps) {
  ModelSpec model;
  TRY(model.model_type, config.text_or("model_type", ""));
  TRY(model.vocab, config.integer("vocab_size"));
  TRY(model.hidden, config.integer("hidden_size", 1, 1 << 20));
  TRY(model.max_positions, config.integer_or("max_position_embeddings", 1 << 20));
  TRY(const double eps, config.number_or(eps_key, default_eps));
  if (!(eps >= 0 && eps <= 1)) return config.reject(eps_key, "must be from 0 to 1");
  model.norm_eps = static_cast<float>(eps);
  TRY(model.tied_head, config.boolean_or("tie_word_embeddings", false));
  // transformers 5 writes "dtype", older ones "torch_dtype".
  TRY(const std::string dtype,
      config.text_or(config.has("dtype") ? "dtype" : "torch_dtype", "bfloat16"));
  TRY(model.dtype, parse_dtype(dtype));
  TRY_STATUS(read_eos(config, &model.eos_tokens));
  if (config.has("quantization_config")) {
    TRY(const ConfigReader quantization, config.object("quantization_config"));
    TRY(model.quantization, read_quantization(quantization));
  }
  TRY(const int32_t n_layers, config.integer("num_hidden_layers", 1, 4096));
  model.layers.resize(static_cast<size_t>(n_layers));
  model.ignored_suffixes = {".rotary_emb.inv_freq"};
  return model;
}

Result<DenseMlp> read_dense_mlp(const ConfigReader& config) {
  TRY_STATUS(config.require_text("hidden_act", "silu", {"silu"}));
  DenseMlp mlp;
  TRY(mlp.intermediate, config.integer("intermediate_size", 1, 1 << 24));
  TRY(mlp.bias, config.boolean_or("mlp_bias", false));
  return mlp;
}

Result<AttentionSpec> read_attention(const ConfigReader& config, int32_t default_head_dim) {
  AttentionSpec attention;
  TRY(attention.heads, config.integer("num_attention_heads", 1, 4096));
  TRY(attention.kv_heads, config.integer_or("num_key_value_heads", attention.heads, 1, 4096));
  TRY(attention.k_dim, config.integer_or("head_dim", default_head_dim, 1, 4096));
  if (!config.has("head_dim") && default_head_dim == kHiddenOverHeads) {
    TRY(const int32_t hidden, config.integer("hidden_size", 1, 1 << 20));
    attention.k_dim = hidden / attention.heads;
  }
  attention.v_dim = attention.k_dim;
  attention.scale = 1.0f / std::sqrt(static_cast<float>(attention.k_dim));
  TRY(attention.qkv_bias, config.boolean_or("attention_bias", false));
  attention.o_bias = attention.qkv_bias;
  return attention;
}

Result<std::vector<std::string>> read_layer_types(
    const ConfigReader& config, std::string_view key, size_t n_layers,
    std::initializer_list<std::string_view> accepted) {
  TRY(std::vector<std::string> types, config.texts(key, n_layers));
  for (const std::string& type : types) {
    if (std::find(accepted.begin(), accepted.end(), type) != accepted.end()) continue;
    std::string list;
    for (const std::string_view item : accepted) {
      list += fmt::format("{}\"{}\"", list.empty() ? "" : ", ", item);
    }
    return config.refuse(key, "supported: " + list);
  }
  return types;
}

Result<std::vector<bool>> read_full_layers(const ConfigReader& config, size_t n,
                                           std::string_view other, std::string_view interval_key) {
  std::vector<bool> full(n);
  if (config.has("layer_types")) {
    TRY(const std::vector<std::string> types,
        read_layer_types(config, "layer_types", n, {other, "full_attention"}));
    for (size_t i = 0; i < n; ++i) full[i] = types[i] == "full_attention";
    return full;
  }
  TRY(const int32_t interval, config.integer(interval_key));
  for (size_t i = 0; i < n; ++i) full[i] = (i + 1) % static_cast<size_t>(interval) == 0;
  return full;
}

Result<StateSpec> read_head_scan(const ConfigReader& config, const HeadScanKeys& keys) {
  StateSpec state{.recurrence = Recurrence::head_scan};
  TRY(state.heads, config.integer(keys.heads, 1, 65536));
  TRY(state.value_dim, config.integer(keys.head_dim, 1, 4096));
  TRY(state.key_dim, config.integer(keys.state_dim, 1, 4096));
  TRY(state.key_heads, config.integer(keys.groups, 1, 65536));
  TRY(state.conv_kernel, config.integer(keys.kernel, 1, 64));
  TRY_STATUS(read_state_dtypes(config, &state));
  return state;
}

Status read_state_dtypes(const ConfigReader& config, StateSpec* state) {
  const char* own = config.has("dtype") ? "dtype" : "torch_dtype";
  TRY(const std::string conv, config.text_or(own, "bfloat16"));
  TRY(state->conv_dtype, parse_dtype(conv));
  TRY(const std::string recurrent, config.text_or("mamba_ssm_dtype", "float32"));
  TRY(state->recurrent_dtype, parse_dtype(recurrent));
  return {};
}

}  // namespace ashlar
