#pragma once

// Scales of an 8-bit cache, as checkpoints carry them: one of K and one of V for each layer, under
// the names that the quantisers give them. stored = value / scale.

#include <optional>
#include <string_view>
#include <vector>

#include "spec/model.h"
#include "weights/checkpoint.h"

namespace ashlar {

struct KvScale {
  float k = 1.0f;
  float v = 1.0f;  // latents have one scale, k
};

// By layer; no value where the checkpoint has none. One of the two alone serves both. invalid: a
// scale that is not one positive finite number, naming the tensor.
Result<std::vector<std::optional<KvScale>>> read_kv_scales(const Checkpoint& checkpoint,
                                                           const ModelSpec& model);

// Whether a tensor of this name belongs to the cache's quantisation: scales of K, V and queries,
// and zero points. Such tensors are no weights.
bool is_kv_scale(std::string_view tensor);

}  // namespace ashlar
