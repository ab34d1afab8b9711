// Nemotron-H: one thing per layer: a Mamba-2 mixer, attention without rotation, or an MLP.

#include "spec/families/families.h"

namespace ashlar {
namespace {

// M mixer, * attention, - MLP, E experts; newer files spell the letters out.
Result<std::string> read_pattern(const ConfigReader& config, size_t n) {
  if (config.has("layers_block_type")) {
    TRY(const std::vector<std::string> types,
        read_layer_types(config, "layers_block_type", n, {"mamba", "attention", "mlp", "moe"}));
    std::string pattern;
    for (const std::string& type : types) {
      pattern += type == "mamba" ? 'M' : type == "attention" ? '*' : '-';
    }
    return pattern;
  }
  TRY(const std::string pattern, config.text_or("hybrid_override_pattern", ""));
  if (pattern.size() != n || pattern.find_first_not_of("M*-E") != std::string::npos) {
    return config.reject("hybrid_override_pattern",
                         fmt::format("expected {} letters of \"M*-E\"", n));
  }
  return pattern;
}

}  // namespace

Result<ModelSpec> read_nemotron_h(const ConfigReader& config) {
  TRY(ModelSpec model, read_common(config, "layer_norm_epsilon", 1e-5));
  TRY(AttentionSpec attention, read_attention(config));
  attention.rope = kNoRope;
  TRY(const StateSpec scan, read_head_scan(config, {.heads = "mamba_num_heads",
                                                    .head_dim = "mamba_head_dim",
                                                    .state_dim = "ssm_state_size",
                                                    .groups = "n_groups",
                                                    .kernel = "conv_kernel"}));
  TRY(const std::string pattern, read_pattern(config, model.layers.size()));
  for (size_t i = 0; i < pattern.size(); ++i) {
    Mixer& mixer = model.layers[i].mixer;
    mixer = std::monostate();
    if (pattern[i] == 'M') mixer = scan;
    if (pattern[i] == '*') mixer = attention;
  }
  return model;
}

}  // namespace ashlar
