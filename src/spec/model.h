#pragma once

// What a model is, as data: read from a checkpoint's config.json by the family that knows its keys.

#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "spec/layer.h"
#include "tensor/dtype.h"

namespace ashlar {

struct ModelSpec {
  std::string model_type;  // as the config spells it, for messages only
  int32_t vocab = 0;
  int32_t hidden = 0;
  int32_t max_positions = 0;
  float norm_eps = 1e-6f;
  bool tied_head = false;     // the output matrix is the embedding
  DType dtype = DType::bf16;  // what the checkpoint says its weights are
  std::string quantization;   // quant_method of the weights; empty: none
  std::vector<int32_t> eos_tokens;
  std::vector<RopeSpec> ropes;
  std::vector<LayerSpec> layers;
  // Tensors of the checkpoint that text generation does not use; not reported as unexpected.
  std::vector<std::string> ignored_prefixes;
  std::vector<std::string> ignored_suffixes;
};

// unsupported: an unknown architecture (the known ones are listed) or a value that is not built
// yet; invalid: a missing key or an impossible value. Both name key and value.
Result<ModelSpec> read_model_spec(const Json& config);

}  // namespace ashlar
