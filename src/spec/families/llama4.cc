// Llama 4: three chunked-local layers with rotation, then one full layer without.

#include "spec/families/families.h"
#include "spec/rope.h"

namespace ashlar {
namespace {

// `layer_types` where given; else 1 per rotated layer; else every n-th layer is full.
Result<std::vector<bool>> read_full_layers(const ConfigReader& config, size_t n) {
  std::vector<bool> full(n);
  if (config.has("layer_types")) {
    TRY(const std::vector<std::string> types,
        read_layer_types(config, "layer_types", n, {"chunked_attention", "full_attention"}));
    for (size_t i = 0; i < n; ++i) full[i] = types[i] == "full_attention";
    return full;
  }
  const Json* rotated = config.find("no_rope_layers");
  if (rotated != nullptr && !(rotated->is_array() && rotated->as_array().empty())) {
    TRY(const std::vector<int32_t> bits, config.integers("no_rope_layers", n));
    for (size_t i = 0; i < n; ++i) full[i] = bits[i] == 0;
    return full;
  }
  TRY(const int32_t interval, config.integer("no_rope_layer_interval"));
  for (size_t i = 0; i < n; ++i) full[i] = (i + 1) % static_cast<size_t>(interval) == 0;
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
  TRY(const std::vector<bool> is_full, read_full_layers(config, model.layers.size()));
  for (size_t i = 0; i < model.layers.size(); ++i) {
    model.layers[i].mixer = is_full[i] ? full : chunked;
  }
  return model;
}

}  // namespace ashlar
