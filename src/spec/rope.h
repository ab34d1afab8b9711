#pragma once

// Rotary frequencies from a config, in every spelling the hub has: flat `rope_theta` +
// `rope_scaling`, or transformers 5's `rope_parameters` object.

#include "spec/config.h"
#include "spec/layer.h"

namespace ashlar {

// The plain frequencies theta^(-2i / rotary_dim) for i < ceil(rotary_dim / 2), in float as the
// checkpoints' own code computes them.
std::vector<float> rope_frequencies(double theta, int32_t rotary_dim);

// Reads the family's rope keys: `rope_parameters` when present, else flat keys of `config`.
// Supported types: default, linear, llama3 (Llama 3.1), yarn (Peng et al. 2023).
Result<RopeSpec> read_rope(const ConfigReader& config, int32_t head_dim, double default_theta,
                           int32_t max_positions);

// The same from an object that is itself a `rope_parameters` of one layer kind.
Result<RopeSpec> read_rope_keys(const ConfigReader& keys, int32_t head_dim, double default_theta,
                                int32_t max_positions);

}  // namespace ashlar
