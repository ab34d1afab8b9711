#pragma once

// What a model is, as data: read from a checkpoint's config.json by the family that knows its keys.

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "spec/layer.h"
#include "tensor/dtype.h"

namespace ashlar {

// What makes a model a draft: it proposes a block of tokens from hidden states of its target.
struct DraftSpec {
  int32_t block_tokens = 0;   // proposed at once, the last accepted token included
  int32_t mask_token = 0;     // what stands at a position not yet proposed
  std::vector<int32_t> taps;  // target layers whose output it reads
};

// What the config says about how weights are stored. The files decide; this must agree with them.
struct QuantizationSpec {
  std::string method;               // "fp8"; empty: elements only
  std::vector<std::string> exempt;  // names of modules whose weights are elements all the same
  std::string refusal;              // why such weights cannot be loaded; empty: they can
};

struct ModelSpec {
  std::string model_type;  // as the config spells it, for messages only
  int32_t vocab = 0;
  int32_t hidden = 0;
  int32_t max_positions = 0;
  float norm_eps = 1e-6f;
  bool tied_head = false;     // the output matrix is the embedding
  DType dtype = DType::bf16;  // what the checkpoint says its weights are
  QuantizationSpec quantization;
  std::vector<int32_t> eos_tokens;
  std::vector<RopeSpec> ropes;
  std::vector<LayerSpec> layers;
  std::optional<DraftSpec> draft;
  // Why this model can be planned but not run yet; empty: it can run.
  std::string plan_only;
  // Norms store their weight less one, except those inside a mixer that say otherwise.
  bool centred_norms = false;
  // What a mixer and an MLP give is normalised before it is added to the residual stream.
  bool branch_norms = false;
  // Embeddings are multiplied by it, rounded to bf16 where they are bf16 and computed with as such.
  float embedding_scale = 1.0f;
  // What names of the checkpoint begin with where ours (model., lm_head.) begin with something
  // else: {theirs, ours}.
  std::vector<std::pair<std::string, std::string>> renamed_prefixes;
  // Tensors of the checkpoint that text generation does not use; not reported as unexpected.
  std::vector<std::string> ignored_prefixes;
  std::vector<std::string> ignored_suffixes;
};

// A model to run. unsupported: an unknown architecture (the known ones are listed), one that can
// only be planned yet, or a value that is not built; invalid: a missing key or an impossible value.
// All name key and value.
Result<ModelSpec> read_model_spec(const Json& config);

// A model to plan: as above, models that cannot run yet included. Of those (plan_only is set) the
// mixers, ropes and common sizes are filled; MLPs are not.
Result<ModelSpec> read_cache_spec(const Json& config);

// A draft for `target`, whose vocabulary it has. invalid when the config is no draft's or does not
// fit: hidden size, vocabulary, taps, mask token or block, each with both numbers.
Result<ModelSpec> read_draft_spec(const Json& config, const ModelSpec& target);

}  // namespace ashlar
