// Llama 2 and 3: plain grouped-query attention, SwiGLU, one rope.

#include <cmath>

#include "spec/families/families.h"
#include "spec/rope.h"

namespace ashlar {

Result<ModelSpec> read_llama(const ConfigReader& config) {
  TRY(ModelSpec model, read_common(config, "rms_norm_eps", 1e-6));
  AttentionSpec attention;
  TRY(attention.heads, config.integer("num_attention_heads", 1, 4096));
  TRY(attention.kv_heads, config.integer_or("num_key_value_heads", attention.heads, 1, 4096));
  TRY(attention.k_dim, config.integer_or("head_dim", model.hidden / attention.heads, 1, 4096));
  attention.v_dim = attention.k_dim;
  attention.scale = 1.0f / std::sqrt(static_cast<float>(attention.k_dim));
  TRY(attention.qkv_bias, config.boolean_or("attention_bias", false));
  attention.o_bias = attention.qkv_bias;
  TRY(RopeSpec rope, read_rope(config, attention.k_dim, 10000, model.max_positions));
  model.ropes = {std::move(rope)};
  TRY(const DenseMlp mlp, read_dense_mlp(config));
  for (LayerSpec& layer : model.layers) layer = {.attention = attention, .mlp = mlp};
  return model;
}

}  // namespace ashlar
