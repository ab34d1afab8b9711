// gpt-oss: every other layer windowed, sinks and biases in all of them, clamped experts. The
// experts are stored transposed, or as MXFP4.

#include "spec/families/families.h"
#include "spec/rope.h"

namespace ashlar {
namespace {

Result<MoeMlp> read_moe(const ConfigReader& config) {
  TRY_STATUS(config.require_text("hidden_act", "silu", {"silu"}));
  MoeMlp moe{.score = ExpertScore::softmax,
             .bias = true,
             .activation = Activation::clamped,
             .interleaved = true};
  TRY(moe.n_experts, config.integer("num_local_experts", 1, 65536));
  TRY(moe.top_k, config.integer("num_experts_per_tok", 1, 256));
  TRY(moe.intermediate, config.integer("intermediate_size", 1, 1 << 24));
  TRY(const double limit, config.number_or("swiglu_limit", 7.0));
  if (!(limit > 0)) return config.reject("swiglu_limit", "must exceed 0");
  moe.clamp = static_cast<float>(limit);
  return moe;
}

}  // namespace

Result<ModelSpec> read_gpt_oss(const ConfigReader& config) {
  TRY(ModelSpec model, read_common(config, "rms_norm_eps", 1e-5));
  TRY(AttentionSpec full, read_attention(config, 64));
  TRY(const MoeMlp moe, read_moe(config));
  full.sinks = true;
  AttentionSpec window = full;
  TRY(window.window, config.integer("sliding_window"));
  TRY(RopeSpec rope, read_rope(config, full.k_dim, 150000, model.max_positions));
  model.ropes = {std::move(rope)};
  std::vector<bool> is_full(model.layers.size());
  for (size_t i = 0; i < is_full.size(); ++i) is_full[i] = i % 2 == 1;
  if (config.has("layer_types")) {
    TRY(const std::vector<std::string> types,
        read_layer_types(config, "layer_types", is_full.size(),
                         {"sliding_attention", "full_attention"}));
    for (size_t i = 0; i < is_full.size(); ++i) is_full[i] = types[i] == "full_attention";
  }
  for (size_t i = 0; i < is_full.size(); ++i) {
    model.layers[i] = {.mixer = is_full[i] ? full : window, .mlp = moe};
  }
  return model;
}

}  // namespace ashlar
