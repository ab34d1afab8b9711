#pragma once

// The families this program knows: one function each, one list. This folder is the only place where
// a family's name may stand; what makes it different must be expressed in the rows of spec/layer.h.

#include <span>

#include "spec/config.h"
#include "spec/model.h"

namespace ashlar {

struct Family {
  const char* model_type;  // config.json's "model_type"
  Result<ModelSpec> (*read)(const ConfigReader& config);
};

// Every known family, in the order messages list them.
std::span<const Family> families();

Result<ModelSpec> read_llama(const ConfigReader& config);
Result<ModelSpec> read_qwen3(const ConfigReader& config);
Result<ModelSpec> read_mimo_v2(const ConfigReader& config);

// What every decoder config shares: sizes, eos, dtype, tying, quantization. `eps_key` is the
// family's name for the norm epsilon.
Result<ModelSpec> read_common(const ConfigReader& config, std::string_view eps_key,
                              double default_eps);

// A gated MLP with SiLU is the only dense one so far; refuses other activations.
Result<DenseMlp> read_dense_mlp(const ConfigReader& config);

// REQUIRES layers filled: heads divide, groups fit, ropes fit. Called on every family's result.
Status validate(const ModelSpec& model);

}  // namespace ashlar
