#pragma once

// The same models under the uniform layout (uniform.h): what vLLM's block pool would make of the
// memory, for comparison with the arena. Pure functions.

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kv/kinds.h"
#include "kv/uniform.h"
#include "spec/groups.h"

namespace ashlar {

// A model and the format of its cache. A draft comes second.
struct PlannedModel {
  const ModelSpec* spec = nullptr;
  CacheFormat format;
};

struct UniformPlanOptions {
  int64_t memory_bytes = 0;
  int32_t block_tokens = 16;
  int32_t step_tokens = 512;
  int32_t pack = 1;         // attention layers per page
  int32_t speculative = 0;  // tokens proposed by a draft
};

struct UniformPoint {
  int32_t n_tokens = 0;
  int64_t bytes = 0;           // of a resident sequence's blocks
  int64_t n_sequences = 0;     // counted as in the arena: all but the last are resident
  double max_concurrency = 0;  // as the reference prints it: each with a step in flight
};

struct UniformPlan {
  UniformLayout layout;
  UniformGrain grain;
  std::vector<UniformPoint> points;
  std::vector<std::string> reasons;  // sentences: what was grown, padded or left empty, and why
};

// The layers as rows of the uniform layout, named layers.N and draft.N; where there are states,
// blocks are grown and state pages padded as the reference does for hybrids.
Result<std::vector<UniformLayer>> uniform_layers(std::span<const PlannedModel> models,
                                                 const UniformPlanOptions& options);

// The name of a layer's row: the `row`-th group, counted from 0, that the layer is in.
std::string uniform_layer_name(size_t model, int32_t layer, size_t row);

// What uniform_layout() is asked for those layers; its max_model_len is the caller's to set.
UniformOptions uniform_options(std::span<const UniformLayer> layers,
                               const UniformPlanOptions& options);

// Errors are the layout's refusals (uniform_groups.h).
Result<UniformPlan> uniform_plan(std::span<const PlannedModel> models,
                                 std::span<const int32_t> lengths,
                                 const UniformPlanOptions& options);

}  // namespace ashlar
