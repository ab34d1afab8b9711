#pragma once

// Model: weights and ops that run a Step. It holds no sequence and no cache page: all state of a
// request is in the pages the step names. Engine thread only.

#include <memory>
#include <optional>
#include <variant>
#include <vector>

#include "base/pool.h"
#include "base/result.h"
#include "kernels/ops.h"
#include "model/layers.h"
#include "model/scratch.h"
#include "model/step.h"
#include "spec/model.h"
#include "weights/load.h"

namespace ashlar {

struct ModelOptions {
  DType compute = DType::bf16;    // bf16, or f32: every product in float
  int32_t max_step_tokens = 512;  // T of the largest step
  int32_t max_logit_rows = 128;   // rows of one step that may want logits
  int64_t count_tokens = 0;   // what is written to the cache is looked at until so many have run
  std::vector<int32_t> taps;  // layers behind which a draft wants the residual stream
};

class Model {
 public:
  // `layer_caches` has one entry per layer; the pages they view must outlive the model.
  static Result<Model> create(ModelSpec spec, LoadedWeights weights, const Ops& ops,
                              const ModelOptions& options, std::vector<LayerCache> layer_caches);

  const ModelSpec& spec() const { return spec_; }
  const Ops& ops() const { return ops_; }
  const ModelOptions& options() const { return options_; }
  // What the writes of the first counted_tokens() tokens met, by layer; empty when count_tokens is
  // 0. Whole steps are counted.
  std::span<const WriteStats> write_stats() const { return write_stats_; }
  int64_t counted_tokens() const { return counted_tokens_; }
  bool is_counting() const { return counted_tokens_ < options_.count_tokens; }
  // The stored type of most matrices: the last MLP's.
  DType matrix_dtype() const {
    const LayerTree<Matrix>& last = weights_.views.layers.back();
    return (last.moe.experts.empty() ? last.mlp : last.moe.experts.front()).gate.dtype;
  }

  // Runs the step and writes its K and V into the pages. Returns logits [logit_rows, V] f32, valid
  // until the next call. REQUIRES at most max_step_tokens rows, max_logit_rows wanted, token ids
  // within the vocabulary. exhausted when the step's workspace is refused; nothing has been written
  // then.
  Result<ConstView> forward(const Step& step, Pool& pool);
  // What the last forward's `n_tokens` rows were behind the layers of options().taps, side by side:
  // [n_tokens, taps * H] f32, valid until the next forward.
  View taps(int64_t n_tokens) const { return scratch_.taps(n_tokens); }

  // Of a draft: writes K and V of its target's rows, given the target's taps of them, at the rows'
  // positions. `step` is the target's, with the pages of this model's groups in it.
  // context = hidden_norm(fc(taps)), the same for every layer (DFlash, 2026).
  void write_context(const Step& step, const View& taps, Pool& pool);
  // Of a draft, which has neither: embedding and head of `target`, which must outlive it.
  void borrow_ends(const Model& target);

 private:
  // A plan serves all layers of a group that have the same number of query heads.
  struct PlanKey {
    int32_t group;
    std::variant<AttnShape, LatentShape> shape;
    bool operator==(const PlanKey&) const = default;
  };
  static std::optional<PlanKey> plan_key(const LayerSpec& layer, int32_t group);

  Status absorb_latents();
  Model(ModelSpec spec, LoadedWeights weights, const Ops& ops, const ModelOptions& options,
        std::vector<LayerCache> layer_caches, Scratch scratch);
  void count_writes(int64_t n_tokens);
  void list_states(const Step& step);
  Status plan(const Step& step, int n_threads);
  StepContext context_of(int64_t n_tokens, Pool& pool) const;
  void turn(const Step& step);
  void embed_masks(const Step& step);
  void keep_taps(int64_t n, int32_t layer);
  void mix(const StepContext& context, size_t layer);
  void feed_forward(const StepContext& context, size_t layer);
  float embedding_scale() const;
  ConstView output(const StepContext& context, const Step& step);

  ModelSpec spec_;
  LoadedWeights weights_;
  Ops ops_;
  ModelOptions options_;
  std::vector<LayerCache> layer_caches_;
  Scratch scratch_;
  std::vector<PlanKey> plan_keys_;
  std::vector<size_t> layer_plan_;  // by layer, into plan_keys_ and plans_
  std::vector<AttnPlan> plans_;
  std::vector<std::vector<StateSeq>> state_seqs_;    // of the step, by cache group
  std::vector<std::vector<ExpertWeights>> experts_;  // by layer, in the form the op takes
  std::vector<AbsorbedKv> absorbed_;                 // by layer; empty but where latents are
  std::vector<WriteStats> write_stats_;              // by layer
  int64_t counted_tokens_ = 0;
};

}  // namespace ashlar
