// Llama 4: three chunked-local layers with rotation, then one full layer without.

#include "spec/families/families.h"
#include "spec/rope.h"

namespace ashlar {
namespace {

// Without `layer_types`, a list may have 1 per rotated layer; full layers are not rotated.
Result<std::vector<bool>> read_unrotated(const ConfigReader& config, size_t n) {
  const Json* rotated = config.find("no_rope_layers");
  const bool listed = rotated != nullptr && !(rotated->is_array() && rotated->as_array().empty());
  if (config.has("layer_types") || !listed) {
    return read_full_layers(config, n, "chunked_attention", "no_rope_layer_interval");
  }
  TRY(const std::vector<int32_t> bits, config.integers("no_rope_layers", n));
  std::vector<bool> full(n);
  for (size_t i = 0; i < n; ++i) full[i] = bits[i] == 0;
  return full;
}

}  // namespace

Result<ModelSpec> read_llama4(const ConfigReader& config) {
  TRY(ModelSpec model, read_common(config, "rms_norm_eps", 1e-5));
  TRY(AttentionSpec chunked, read_attention(config));
  TRY(chunked.chunk, config.integer("attention_chunk_size"));
  AttentionSpec full = chunked;
  full.chunk = 0;
  full.rope = kNoRope;
  TRY(RopeSpec rope, read_rope(config, full.k_dim, 500000, model.max_positions));
  rope.style = RopeStyle::interleaved;
  model.ropes = {std::move(rope)};
  TRY(const std::vector<bool> is_full, read_unrotated(config, model.layers.size()));
  for (size_t i = 0; i < model.layers.size(); ++i) {
    model.layers[i].mixer = is_full[i] ? full : chunked;
  }
  return model;
}

}  // namespace ashlar
