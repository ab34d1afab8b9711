#include "spec/families/families.h"

namespace ashlar {
namespace {

constexpr Family kFamilies[] = {
    {"llama", read_llama},
    {"qwen3", read_qwen3},
    {"mimo_v2_flash", read_mimo_v2},
    {"mimo_v2", read_mimo_v2},
};

// The most queries that share one KV head in any kernel.
constexpr int32_t kMaxGroup = 64;

// Matrices of all experts. The largest published models have some 70,000; each is a row in memory.
constexpr int64_t kMaxExpertMatrices = 1 << 17;

Status validate_attention(const ModelSpec& model, const AttentionSpec& attention, size_t layer) {
  if (attention.k_dim < 1) {  // hidden_size / num_attention_heads, where head_dim is absent
    return invalid("config.json: layer {}: hidden size {} leaves nothing for each of {} heads",
                   layer, model.hidden, attention.heads);
  }
  if (attention.heads % attention.kv_heads != 0) {
    return invalid("config.json: layer {}: {} query heads do not divide among {} KV heads", layer,
                   attention.heads, attention.kv_heads);
  }
  if (attention.heads / attention.kv_heads > kMaxGroup) {
    return unsupported(
        "config.json: layer {}: {} query heads per KV head: at most {} are supported", layer,
        attention.heads / attention.kv_heads, kMaxGroup);
  }
  const RopeSpec& rope = model.ropes[static_cast<size_t>(attention.rope)];
  if (2 * rope.inv_freq.size() > static_cast<size_t>(attention.k_dim)) {
    return invalid("config.json: layer {}: {} rotary dims exceed the head's {}", layer,
                   2 * rope.inv_freq.size(), attention.k_dim);
  }
  return {};
}

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

}  // namespace

std::span<const Family> families() { return kFamilies; }

Result<ModelSpec> read_model_spec(const Json& json) {
  if (!json.is_object()) return invalid("config.json: expected an object, found {}", json.kind());
  const ConfigReader config(json, "config.json");
  std::string known;
  TRY(const std::string model_type, config.text_or("model_type", ""));
  for (const Family& family : families()) {
    if (model_type != family.model_type) {
      known += fmt::format("{}{}", known.empty() ? "" : ", ", family.model_type);
      continue;
    }
    TRY(ModelSpec model, family.read(config));
    TRY_STATUS(validate(model));
    return model;
  }
  return config.refuse("model_type", "known architectures are " + known);
}

Status validate(const ModelSpec& model) {
  int64_t n_expert_matrices = 0;
  for (size_t i = 0; i < model.layers.size(); ++i) {
    TRY_STATUS(validate_attention(model, model.layers[i].attention, i));
    const auto* moe = std::get_if<MoeMlp>(&model.layers[i].mlp);
    if (moe == nullptr) continue;
    if (moe->top_k > moe->n_experts || moe->n_experts % moe->n_group != 0 ||
        moe->topk_group > moe->n_group) {
      return invalid(
          "config.json: layer {}: top {} of {} experts in {} groups, {} groups kept: not "
          "consistent",
          i, moe->top_k, moe->n_experts, moe->n_group, moe->topk_group);
    }
    if (moe->top_k > moe->n_experts / moe->n_group * moe->topk_group) {
      return invalid("config.json: layer {}: top {} experts but the kept groups hold {}", i,
                     moe->top_k, moe->n_experts / moe->n_group * moe->topk_group);
    }
    n_expert_matrices += 3 * int64_t{moe->n_experts};
  }
  if (n_expert_matrices > kMaxExpertMatrices) {
    return unsupported("config.json: {} expert matrices in {} layers: at most {} are supported",
                       n_expert_matrices, model.layers.size(), kMaxExpertMatrices);
  }
  return {};
}

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
    TRY(model.quantization, quantization.text_or("quant_method", "unnamed"));
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

}  // namespace ashlar
