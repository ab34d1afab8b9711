// DeepSeek V2, V3, V3.2 and Kimi K2: latent attention in every layer; V3.2 adds a sparse index with
// a cached key of its own.

#include <cmath>

#include "spec/families/families.h"
#include "spec/rope.h"

namespace ashlar {
namespace {

// YaRN's magnitude for all dims, squared because it scales queries and keys alike.
Result<double> read_magnitude(const ConfigReader& config) {
  const char* key = config.has("rope_parameters") ? "rope_parameters" : "rope_scaling";
  if (!config.has(key)) return 1.0;
  TRY(const ConfigReader keys, config.object(key));
  TRY(const double all, keys.number_or("mscale_all_dim", 0));
  TRY(const double factor, keys.number_or("factor", 1));
  const double m = all == 0 || factor <= 1 ? 1.0 : 0.1 * all * std::log(factor) + 1.0;
  return m * m;
}

}  // namespace

Result<LatentSpec> read_latent(const ConfigReader& config) {
  LatentSpec latent;
  TRY(latent.heads, config.integer("num_attention_heads", 1, 4096));
  TRY(latent.q_lora, config.integer_or("q_lora_rank", 0, 1, 65536));
  TRY(latent.kv_lora, config.integer("kv_lora_rank", 1, 65536));
  TRY(latent.nope_dim, config.integer("qk_nope_head_dim", 1, 4096));
  TRY(latent.rope_dim, config.integer("qk_rope_head_dim", 1, 4096));
  TRY(latent.v_dim, config.integer("v_head_dim", 1, 4096));
  TRY(const double magnitude, read_magnitude(config));
  const double plain = 1.0 / std::sqrt(static_cast<double>(latent.nope_dim + latent.rope_dim));
  latent.scale = static_cast<float>(plain * magnitude);
  return latent;
}

namespace {

Result<MoeMlp> read_moe(const ConfigReader& config) {
  TRY(const std::string method, config.text_or("topk_method", "noaux_tc"));
  TRY(const std::string score,
      config.text_or("scoring_func", method == "greedy" ? "softmax" : "sigmoid"));
  const bool sigmoid = score == "sigmoid" && method == "noaux_tc";
  if (!sigmoid && !(score == "softmax" && method == "greedy")) {
    return config.refuse("topk_method",
                         "supported: \"noaux_tc\" with scoring_func \"sigmoid\", \"greedy\" with "
                         "\"softmax\"");
  }
  MoeMlp moe{.score = sigmoid ? ExpertScore::sigmoid : ExpertScore::softmax,
             .correction_bias = sigmoid};
  TRY(moe.n_experts, config.integer("n_routed_experts", 1, 65536));
  TRY(moe.top_k, config.integer("num_experts_per_tok", 1, 256));
  TRY(moe.intermediate, config.integer("moe_intermediate_size", 1, 1 << 24));
  if (sigmoid) {
    TRY(moe.n_group, config.integer_or("n_group", 1));
    TRY(moe.topk_group, config.integer_or("topk_group", 1));
  }
  TRY(moe.normalize, config.boolean_or("norm_topk_prob", sigmoid));
  if (!sigmoid && moe.normalize) {
    return config.refuse("norm_topk_prob", "this family uses softmax scores as they are");
  }
  TRY(const double scaling, config.number_or("routed_scaling_factor", 1.0));
  moe.scaling = static_cast<float>(scaling);
  TRY(const int32_t n_shared, config.integer_or("n_shared_experts", 0, 0, 1024));
  moe.shared = n_shared * moe.intermediate;
  return moe;
}

// Dense at first, then every moe_layer_freq-th layer routed.
Status read_mlps(const ConfigReader& config, ModelSpec* model) {
  TRY(const DenseMlp dense, read_dense_mlp(config));
  TRY(const int32_t n_dense, config.integer_or("first_k_dense_replace", 0, 0));
  TRY(const int32_t every, config.integer_or("moe_layer_freq", 1));
  const bool routed = config.has("n_routed_experts");
  MoeMlp moe;
  if (routed) {
    TRY(moe, read_moe(config));
  }
  for (size_t i = 0; i < model->layers.size(); ++i) {
    const auto number = static_cast<int32_t>(i);
    if (routed && number >= n_dense && number % every == 0) {
      model->layers[i].mlp = moe;
    } else {
      model->layers[i].mlp = dense;
    }
  }
  return {};
}

}  // namespace

Result<ModelSpec> read_deepseek(const ConfigReader& config) {
  TRY(ModelSpec model, read_common(config, "rms_norm_eps", 1e-6));
  TRY(LatentSpec latent, read_latent(config));
  if (config.has("index_topk")) {
    TRY(latent.index_topk, config.integer("index_topk"));
    TRY(latent.index_dim, config.integer("index_head_dim", 1, 4096));
    TRY(latent.index_heads, config.integer("index_n_heads", 1, 4096));
    model.plan_only =
        config.refuse("index_topk", "sparse attention can be planned, not run yet").text;
  }
  TRY(RopeSpec rope, read_rope(config, latent.rope_dim, 10000, model.max_positions));
  rope.style = RopeStyle::interleaved;
  model.ropes = {std::move(rope)};
  for (LayerSpec& layer : model.layers) layer.mixer = latent;
  TRY_STATUS(read_mlps(config, &model));
  // The layers after the last predict further tokens.
  TRY(const int32_t n_more, config.integer_or("num_nextn_predict_layers", 0, 0, 64));
  for (int32_t i = 0; i < n_more; ++i) {
    model.ignored_prefixes.push_back(
        fmt::format("model.layers.{}.", static_cast<int32_t>(model.layers.size()) + i));
  }
  return model;
}

}  // namespace ashlar
