#include "model/model.h"

#include <algorithm>
#include <cstring>

namespace ashlar {

Result<Model> Model::create(ModelSpec spec, LoadedWeights weights, const Ops& ops,
                            const ModelOptions& options, std::vector<LayerCache> layer_caches) {
  CHECK(layer_caches.size() == spec.layers.size(), "{} caches for {} layers", layer_caches.size(),
        spec.layers.size());
  const auto n_taps = static_cast<int64_t>(options.taps.size());
  TRY(Scratch scratch,
      Scratch::create(spec, options.max_step_tokens, options.max_logit_rows, n_taps));
  Model model(std::move(spec), std::move(weights), ops, options, std::move(layer_caches),
              std::move(scratch));
  TRY_STATUS(model.absorb_latents());
  return model;
}

Model::Model(ModelSpec spec, LoadedWeights weights, const Ops& ops, const ModelOptions& options,
             std::vector<LayerCache> layer_caches, Scratch scratch)
    : spec_(std::move(spec)),
      weights_(std::move(weights)),
      ops_(ops),
      options_(options),
      layer_caches_(std::move(layer_caches)),
      scratch_(std::move(scratch)) {
  for (size_t i = 0; i < spec_.layers.size(); ++i) {
    const auto wanted = plan_key(spec_.layers[i], layer_caches_[i].group);
    const auto key =
        wanted ? std::find(plan_keys_.begin(), plan_keys_.end(), *wanted) : plan_keys_.end();
    layer_plan_.push_back(static_cast<size_t>(key - plan_keys_.begin()));
    if (wanted && key == plan_keys_.end()) plan_keys_.push_back(*wanted);
    auto& experts = experts_.emplace_back();
    for (const MlpWeights& e : weights_.views.layers[i].moe.experts) {
      experts.push_back({.gate = e.gate,
                         .up = e.up,
                         .down = e.down,
                         .gate_bias = e.gate_bias,
                         .up_bias = e.up_bias,
                         .down_bias = e.down_bias});
    }
  }
  if (options_.count_tokens > 0) write_stats_.resize(spec_.layers.size());
  for (size_t i = 0; i < write_stats_.size(); ++i) layer_caches_[i].writes = &write_stats_[i];
}

void Model::count_writes(int64_t n_tokens) {
  if (!is_counting()) return;
  counted_tokens_ += n_tokens;
  if (is_counting()) return;
  for (LayerCache& cache : layer_caches_) cache.writes = nullptr;
}

float Model::embedding_scale() const {
  const bool rounds =
      options_.compute == DType::bf16 && weights_.views.embedding.dtype == DType::bf16;
  return rounds ? to_float(to_bf16(spec_.embedding_scale)) : spec_.embedding_scale;
}

// Of attention over tokens; other mixers need no plan.
std::optional<Model::PlanKey> Model::plan_key(const LayerSpec& layer, int32_t group) {
  if (const auto* a = std::get_if<AttentionSpec>(&layer.mixer)) {
    return PlanKey{group, AttnShape{.heads = a->heads,
                                    .kv_heads = a->kv_heads,
                                    .k_dim = a->k_dim,
                                    .v_dim = a->v_dim,
                                    .window = a->window,
                                    .causal = a->causal}};
  }
  if (const auto* l = std::get_if<LatentSpec>(&layer.mixer)) {
    return PlanKey{group,
                   LatentShape{.heads = l->heads, .latent = l->kv_lora, .rope = l->rope_dim}};
  }
  return std::nullopt;
}

Status Model::absorb_latents() {
  absorbed_.resize(spec_.layers.size());
  for (size_t i = 0; i < spec_.layers.size(); ++i) {
    const auto* latent = std::get_if<LatentSpec>(&spec_.layers[i].mixer);
    if (latent == nullptr) continue;
    TRY(absorbed_[i], absorb(*latent, weights_.views.layers[i].latent.kv_b));
  }
  return {};
}

void Model::borrow_ends(const Model& target) {
  const WeightTree<Matrix>& from = target.weights_.views;
  weights_.views.embedding = from.embedding;
  weights_.views.head = target.spec_.tied_head ? from.embedding : from.head;
}

void Model::list_states(const Step& step) {
  state_seqs_.resize(step.groups.size());
  for (const LayerCache& cache : layer_caches_) {
    if (cache.state.base == nullptr) continue;
    auto& seqs = state_seqs_[static_cast<size_t>(cache.group)];
    seqs.clear();
    for (const AttnSeq& seq : step.groups[static_cast<size_t>(cache.group)]) {
      const size_t i = seqs.size();
      seqs.push_back({.q_begin = seq.q_begin,
                      .q_len = seq.q_len,
                      .position = seq.kv_len - seq.q_len,
                      .n_slots = step.state_slots.empty() ? 0 : step.state_slots[i],
                      .pages = seq.pages});
    }
  }
}

Status Model::plan(const Step& step, int n_threads) {
  list_states(step);
  plans_.clear();
  int64_t bytes = 0;
  for (const PlanKey& key : plan_keys_) {
    const auto& seqs = step.groups[static_cast<size_t>(key.group)];
    if (const auto* shape = std::get_if<AttnShape>(&key.shape)) {
      plans_.push_back(plan_attention(*shape, seqs, n_threads));
    } else {
      plans_.push_back(plan_latent(std::get<LatentShape>(key.shape), seqs, n_threads));
    }
    bytes = std::max(bytes, plans_.back().workspace_bytes);
  }
  return scratch_.grow_workspace(bytes);
}

Result<ConstView> Model::forward(const Step& step, Pool& pool) {
  const int64_t n = step.n_tokens();
  CHECK(n > 0 && n <= options_.max_step_tokens, "step of {} tokens, limit {}", n,
        options_.max_step_tokens);
  CHECK(static_cast<int32_t>(step.logit_rows.size()) <= options_.max_logit_rows);
  TRY_STATUS(plan(step, pool.size()));
  const StepContext context = context_of(n, pool);
  const WeightTree<Matrix>& weights = weights_.views;
  embed({.ids = step.tokens,
         .table = weights.embedding,
         .multiplier = embedding_scale(),
         .y = scratch_.hidden(n)},
        pool);
  if (weights.mask_embedding) embed_masks(step);
  turn(step);
  for (size_t i = 0; i < spec_.layers.size(); ++i) {
    const LayerTree<Matrix>& layer = weights.layers[i];
    context.begin_branch(layer.mixer_norm);
    mix(context, i);
    context.end_branch(layer.mixer_post_norm);
    context.begin_branch(layer.mlp_norm);
    feed_forward(context, i);
    context.end_branch(layer.mlp_post_norm);
    keep_taps(n, static_cast<int32_t>(i));
  }
  count_writes(n);
  return output(context, step);
}

StepContext Model::context_of(int64_t n_tokens, Pool& pool) const {
  return {.spec = spec_,
          .ops = ops_,
          .pool = pool,
          .scratch = scratch_,
          .compute = options_.compute,
          .n_tokens = n_tokens};
}

// The tables of this step's positions.
void Model::turn(const Step& step) {
  for (size_t r = 0; r < spec_.ropes.size(); ++r) {
    rope_table(step.positions, spec_.ropes[r].inv_freq, spec_.ropes[r].amplitude,
               scratch_.cos_sin(r, step.n_tokens()));
  }
}

// A draft's own embedding of the mask token, for which the target's has no use.
void Model::embed_masks(const Step& step) {
  const View hidden = scratch_.hidden(step.n_tokens());
  for (int64_t i = 0; i < step.n_tokens(); ++i) {
    if (step.tokens[static_cast<size_t>(i)] != spec_.draft->mask_token) continue;
    std::memcpy(hidden.row<float>(i), floats(weights_.views.mask_embedding),
                static_cast<size_t>(spec_.hidden) * sizeof(float));
  }
}

// The residual stream behind `layer`, where somebody asked for it.
void Model::keep_taps(int64_t n, int32_t layer) {
  for (size_t tap = 0; tap < options_.taps.size(); ++tap) {
    if (options_.taps[tap] != layer) continue;
    const View to = scratch_.taps(n);
    const View hidden = scratch_.hidden(n);
    for (int64_t i = 0; i < n; ++i) {
      std::memcpy(to.row<float>(i) + static_cast<int64_t>(tap) * spec_.hidden, hidden.row<float>(i),
                  static_cast<size_t>(spec_.hidden) * sizeof(float));
    }
  }
}

void Model::write_context(const Step& step, const View& taps, Pool& pool) {
  const int64_t n = step.n_tokens();
  CHECK(spec_.draft && n <= options_.max_step_tokens, "context of {} tokens", n);
  const StepContext context = context_of(n, pool);
  const WeightTree<Matrix>& weights = weights_.views;
  turn(step);
  context.multiply(taps, weights.fc, {}, scratch_.hidden(n));
  context.normalize(scratch_.hidden(n), weights.hidden_norm, scratch_.normed(n));
  for (size_t i = 0; i < spec_.layers.size(); ++i) {
    const LayerCache& cache = layer_caches_[i];
    context_layer(context, attention_of(spec_.layers[i]), weights.layers[i].attention, cache,
                  step.groups[static_cast<size_t>(cache.group)]);
  }
}

// output += mixer(normed)
void Model::mix(const StepContext& context, size_t layer) {
  const LayerTree<Matrix>& weights = weights_.views.layers[layer];
  const Mixer& mixer = spec_.layers[layer].mixer;
  if (const auto* attention = std::get_if<AttentionSpec>(&mixer)) {
    attention_layer(context, *attention, weights.attention, layer_caches_[layer],
                    plans_[layer_plan_[layer]]);
  } else if (const auto* latent = std::get_if<LatentSpec>(&mixer)) {
    latent_layer(context, *latent, weights.latent, absorbed_[layer], layer_caches_[layer],
                 plans_[layer_plan_[layer]]);
  } else if (const auto* state = std::get_if<StateSpec>(&mixer)) {
    const LayerCache& cache = layer_caches_[layer];
    state_layer(context, *state, weights.state, cache.state,
                state_seqs_[static_cast<size_t>(cache.group)]);
  }
}

// output += mlp(normed)
void Model::feed_forward(const StepContext& context, size_t layer) {
  const LayerTree<Matrix>& weights = weights_.views.layers[layer];
  if (const auto* moe = std::get_if<MoeMlp>(&spec_.layers[layer].mlp)) {
    moe_mlp_layer(context, *moe, weights.moe, experts_[layer]);
  } else {
    dense_mlp_layer(context, std::get<DenseMlp>(spec_.layers[layer].mlp), weights.mlp);
  }
}

ConstView Model::output(const StepContext& context, const Step& step) {
  const auto n_rows = static_cast<int64_t>(step.logit_rows.size());
  const View rows = scratch_.gathered(n_rows);
  const View hidden = scratch_.hidden(context.n_tokens);
  for (int64_t i = 0; i < n_rows; ++i) {
    const int32_t row = step.logit_rows[static_cast<size_t>(i)];
    std::memcpy(rows.row<float>(i), hidden.row<float>(row),
                static_cast<size_t>(spec_.hidden) * sizeof(float));
  }
  const View logits = scratch_.logits(n_rows);
  if (n_rows == 0) return logits;
  context.normalize(rows, weights_.views.norm, rows);
  const Matrix& head = spec_.tied_head ? weights_.views.embedding : weights_.views.head;
  context.multiply(rows, head, {}, logits);
  return logits;
}

}  // namespace ashlar
