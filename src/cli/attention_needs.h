#pragma once

// What a model's layers ask of attention bodies: one row for each kind of layer that the choice of
// a backend could tell apart.

#include <string>
#include <vector>

#include "kernels/attention/backends.h"
#include "spec/groups.h"

namespace ashlar {

struct LayerNeed {
  AttentionNeed need;
  LayerKind kind = LayerKind::full;
  int32_t n_layers = 0;
  bool draft = false;
};

// Of the layers that attend, in order of first appearance; `first` numbers the model's first layer
// in `groups` (a draft's stand behind its target's). `compute` is what the model's products are
// made of: a CPU body takes float queries where pages do not hold bf16 numbers.
std::vector<LayerNeed> attention_needs(const ModelSpec& model, std::span<const CacheGroup> groups,
                                       Device::Kind device, DType compute, size_t first = 0);

}  // namespace ashlar
