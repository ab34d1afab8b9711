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

Result<ModelSpec> read_deepseek(const ConfigReader& config) {
  TRY(ModelSpec model, read_common(config, "rms_norm_eps", 1e-6));
  TRY(LatentSpec latent, read_latent(config));
  if (config.has("index_topk")) {
    TRY(latent.index_topk, config.integer("index_topk"));
    TRY(latent.index_dim, config.integer("index_head_dim", 1, 4096));
    TRY(latent.index_heads, config.integer("index_n_heads", 1, 4096));
  }
  TRY(RopeSpec rope, read_rope(config, latent.rope_dim, 10000, model.max_positions));
  rope.style = RopeStyle::interleaved;
  model.ropes = {std::move(rope)};
  for (LayerSpec& layer : model.layers) layer.mixer = latent;
  return model;
}

}  // namespace ashlar
