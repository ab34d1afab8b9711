#pragma once

// The families this program knows: one function each, one list. This folder is the only place where
// a family's name may stand; what makes it different must be expressed in the rows of spec/layer.h.

#include <span>

#include "spec/config.h"
#include "spec/model.h"

namespace ashlar {

enum class Runs : uint8_t { yes, no };  // no: its cache can be planned

struct Family {
  const char* model_type;  // config.json's "model_type"
  Result<ModelSpec> (*read)(const ConfigReader& config);
  Runs runs = Runs::yes;
  const char* defaults = nullptr;  // JSON: what the family's configs leave out
};

// Every known family, in the order messages list them.
std::span<const Family> families();

Result<ModelSpec> read_llama(const ConfigReader& config);
Result<ModelSpec> read_llama4(const ConfigReader& config);
Result<ModelSpec> read_qwen3(const ConfigReader& config);
Result<ModelSpec> read_qwen3_next(const ConfigReader& config);
Result<ModelSpec> read_dflash(const ConfigReader& config);
Result<ModelSpec> read_mimo_v2(const ConfigReader& config);
Result<ModelSpec> read_deepseek(const ConfigReader& config);
Result<ModelSpec> read_kimi_linear(const ConfigReader& config);
Result<ModelSpec> read_gemma3(const ConfigReader& config);
Result<ModelSpec> read_gpt_oss(const ConfigReader& config);
Result<ModelSpec> read_bamba(const ConfigReader& config);
Result<ModelSpec> read_granite_hybrid(const ConfigReader& config);
Result<ModelSpec> read_nemotron_h(const ConfigReader& config);
Result<ModelSpec> read_jamba(const ConfigReader& config);

// What every decoder config shares: sizes, eos, dtype, tying, quantization. `eps_key` is the
// family's name for the norm epsilon.
Result<ModelSpec> read_common(const ConfigReader& config, std::string_view eps_key,
                              double default_eps);

// A gated MLP with SiLU is the only dense one so far; refuses other activations.
Result<DenseMlp> read_dense_mlp(const ConfigReader& config);

// Grouped-query attention by its usual keys: num_attention_heads, num_key_value_heads, head_dim,
// attention_bias; every token seen, rope 0, scale 1 / sqrt(head_dim).
constexpr int32_t kHiddenOverHeads = 0;  // as default_head_dim: hidden_size / num_attention_heads
Result<AttentionSpec> read_attention(const ConfigReader& config,
                                     int32_t default_head_dim = kHiddenOverHeads);

// One name per layer, each of those accepted.
Result<std::vector<std::string>> read_layer_types(const ConfigReader& config, std::string_view key,
                                                  size_t n_layers,
                                                  std::initializer_list<std::string_view> accepted);

// Which of n layers are "full_attention" and not `other`: by name in layer_types, or where that is
// absent every k-th, k under `interval_key`.
Result<std::vector<bool>> read_full_layers(const ConfigReader& config, size_t n,
                                           std::string_view other, std::string_view interval_key);

// Latent attention by the keys of its first family. Ropes are the caller's.
Result<LatentSpec> read_latent(const ConfigReader& config);

// A Mamba-2 layer; families differ in how they spell its sizes.
struct HeadScanKeys {
  const char* heads = "mamba_n_heads";
  const char* head_dim = "mamba_d_head";
  const char* state_dim = "mamba_d_state";
  const char* groups = "mamba_n_groups";
  const char* kernel = "mamba_d_conv";
};
Result<StateSpec> read_head_scan(const ConfigReader& config, const HeadScanKeys& keys);

// The convolution's state in the model's dtype, the recurrence's in mamba_ssm_dtype or f32.
Status read_state_dtypes(const ConfigReader& config, StateSpec* state);

// REQUIRES layers filled: heads divide, groups fit, ropes fit. Called on every family's result.
Status validate(const ModelSpec& model);

}  // namespace ashlar
