#include "spec/families/families.h"

#include <algorithm>
#include <array>

namespace ashlar {
namespace {

// Keys that a nested text model takes from the document around it when it lacks them.
constexpr const char* kTextKey = "text_config";

// The tensors of what stands beside a text model in one checkpoint.
constexpr std::array kOtherModels = {"model.visual.", "visual.",
                                     "vision_tower.", "audio_tower.",
                                     "mm_projector.", "multi_modal_projector.",
                                     "model.vision_", "model.multi_modal_projector."};

// transformers' class defaults, which published configs of this family leave out.
constexpr const char* kGemma3Defaults = R"({"vocab_size": 262208, "num_attention_heads": 8,
  "num_key_value_heads": 4, "head_dim": 256, "intermediate_size": 9216,
  "max_position_embeddings": 131072, "rms_norm_eps": 1e-6, "tie_word_embeddings": true,
  "query_pre_attn_scalar": 256, "sliding_window": 4096, "sliding_window_pattern": 6,
  "rope_local_base_freq": 10000, "hidden_activation": "gelu_pytorch_tanh"})";

constexpr const char* kLlama4Defaults = R"({"head_dim": 128, "attention_chunk_size": 8192,
  "no_rope_layer_interval": 4})";

constexpr const char* kQwen3NextDefaults = R"({"full_attention_interval": 4})";

constexpr Family kFamilies[] = {
    {"llama", read_llama},
    {"qwen3", read_qwen3},
    {"mimo_v2_flash", read_mimo_v2},
    {"mimo_v2", read_mimo_v2},
    {"deepseek_v2", read_deepseek, Runs::yes, R"({"topk_method": "greedy"})"},
    {"deepseek_v3", read_deepseek},
    {"deepseek_v32", read_deepseek, Runs::no},
    {"kimi_k2", read_deepseek},
    {"kimi_k25", read_deepseek},
    {"kimi_linear", read_kimi_linear, Runs::no},
    {"qwen3_next", read_qwen3_next, Runs::yes, kQwen3NextDefaults},
    {"qwen3_5", read_qwen3_next, Runs::yes, kQwen3NextDefaults},
    {"qwen3_5_text", read_qwen3_next, Runs::yes, kQwen3NextDefaults},
    {"qwen3_5_moe", read_qwen3_next, Runs::yes, kQwen3NextDefaults},
    {"qwen3_5_moe_text", read_qwen3_next, Runs::yes, kQwen3NextDefaults},
    {"gemma3", read_gemma3, Runs::yes, kGemma3Defaults},
    {"gemma3_text", read_gemma3, Runs::yes, kGemma3Defaults},
    {"gpt_oss", read_gpt_oss},
    {"llama4", read_llama4, Runs::no, kLlama4Defaults},
    {"llama4_text", read_llama4, Runs::no, kLlama4Defaults},
    {"bamba", read_bamba, Runs::no},
    {"granitemoehybrid", read_granite_hybrid, Runs::no},
    {"nemotron_h", read_nemotron_h, Runs::no},
    {"jamba", read_jamba, Runs::no},
};

// `over`'s members, and those of `under` that it lacks or has as null.
Json merged(const Json& over, const Json& under) {
  Json::Object out;
  for (const auto& [key, value] : over.as_object()) {
    if (!value.is_null() || under.find(key) == nullptr) out.emplace_back(key, value);
  }
  for (const auto& [key, value] : under.as_object()) {
    const Json* own = over.find(key);
    if (key != kTextKey && (own == nullptr || own->is_null())) out.emplace_back(key, value);
  }
  return out;
}

std::string listed(Runs runs) {
  std::string out;
  for (const Family& family : families()) {
    if (family.runs == runs) out += (out.empty() ? "" : ", ") + std::string(family.model_type);
  }
  return out;
}

Result<ModelSpec> read_as(const Family& family, Json json, const std::string& path) {
  if (family.defaults != nullptr) {
    const auto defaults = parse_json(family.defaults, family.model_type);
    CHECK(defaults.has_value(), "{}: {}", family.model_type, defaults.error().text);
    json = merged(json, *defaults);
  }
  const ConfigReader config(json, path);
  TRY(ModelSpec model, family.read(config));
  TRY_STATUS(validate(model));
  if (family.runs == Runs::no && model.plan_only.empty()) {
    model.plan_only = config.refuse("model_type", "can be planned, not run yet").text;
  }
  return model;
}

}  // namespace

std::span<const Family> families() { return kFamilies; }

Result<ModelSpec> read_cache_spec(const Json& json) {
  if (!json.is_object()) return invalid("config.json: expected an object, found {}", json.kind());
  const Json* text = json.find(kTextKey);
  const bool nested = text != nullptr && text->is_object();
  const std::string path = nested ? std::string("config.json: ") + kTextKey : "config.json";
  Json whole = nested ? merged(*text, json) : json;
  const ConfigReader config(whole, path);
  TRY(const std::string model_type, config.text_or("model_type", ""));
  const auto family = std::find_if(families().begin(), families().end(),
                                   [&](const Family& f) { return model_type == f.model_type; });
  if (family == families().end()) {
    return config.refuse("model_type",
                         fmt::format("known architectures are {}; to plan, not yet to run: {}",
                                     listed(Runs::yes), listed(Runs::no)));
  }
  TRY(ModelSpec model, read_as(*family, std::move(whole), path));
  if (nested) {
    model.renamed_prefixes = {{"model.language_model.", "model."}, {"language_model.", ""}};
    model.ignored_prefixes.insert(model.ignored_prefixes.end(), kOtherModels.begin(),
                                  kOtherModels.end());
  }
  return model;
}

Result<ModelSpec> read_model_spec(const Json& config) {
  TRY(ModelSpec model, read_cache_spec(config));
  if (!model.plan_only.empty()) {
    return unsupported("{}; architectures that run are {}", model.plan_only, listed(Runs::yes));
  }
  return model;
}

}  // namespace ashlar
