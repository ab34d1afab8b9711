// Llama 2 and 3: plain grouped-query attention, SwiGLU, one rope.

#include "spec/families/families.h"
#include "spec/rope.h"

namespace ashlar {

Result<ModelSpec> read_llama(const ConfigReader& config) {
  TRY(ModelSpec model, read_common(config, "rms_norm_eps", 1e-6));
  TRY(const AttentionSpec attention, read_attention(config));
  TRY(RopeSpec rope, read_rope(config, attention.k_dim, 10000, model.max_positions));
  model.ropes = {std::move(rope)};
  TRY(const DenseMlp mlp, read_dense_mlp(config));
  for (LayerSpec& layer : model.layers) layer = {.mixer = attention, .mlp = mlp};
  return model;
}

}  // namespace ashlar
