#include "kv/plan_uniform.h"

#include <algorithm>

#include "kv/uniform_align.h"

namespace ashlar {
namespace {

// The shortest block its latent kernels take beside states; attention kernels take 16.
constexpr int64_t kLatentKernelBlock = 128;
constexpr int64_t kKernelBlock = 16;

UniformKind kind_of(LayerKind kind) {
  switch (kind) {
    case LayerKind::full: return UniformKind::full;
    case LayerKind::window: return UniformKind::window;
    case LayerKind::chunk: return UniformKind::chunk;
    case LayerKind::latent: return UniformKind::latent;
    case LayerKind::state: return UniformKind::state;
  }
  return UniformKind::full;
}

UniformSpec token_spec(const CacheGroup& group, bool is_index, const UniformPlanOptions& options) {
  UniformSpec spec{.kind = kind_of(group.kind),
                   .block_tokens = options.block_tokens,
                   .kv_heads = group.kv_heads,
                   .k_dim = group.k_dim,
                   .v_dim = group.kind == LayerKind::latent ? group.k_dim : group.v_dim,
                   .element_bytes = size_of(group.dtype),
                   .window = group.window,
                   .chunk = group.chunk,
                   .strided = true};
  if (is_f8(group.dtype)) spec.quant = KvQuant::fp8_per_tensor;
  if (group.token_scales && group.kind != LayerKind::latent) {
    spec.quant = KvQuant::fp8_per_token_head;
    return spec;
  }
  // Rows with scales between them are bytes to the pool.
  if (group.extra_bytes > 0) spec.k_dim = spec.v_dim = group.k_dim + group.extra_bytes;
  // A latent layer names its format, its index does not: the reference tells them apart by it.
  if (group.kind == LayerKind::latent && !is_index) spec.cache_format = "auto";
  return spec;
}

UniformSpec state_spec(const StateSpec& state, int32_t ranks, const UniformPlanOptions& options) {
  const Shape conv = state.conv_shape(ranks);
  const Shape recurrent = state.recurrent_shape(ranks);
  return {.kind = UniformKind::state,
          .block_tokens = options.block_tokens,
          // A row more for every token that may be taken back.
          .states = {{{conv[0] + options.speculative, conv[1]}, size_of(state.conv_dtype)},
                     {{recurrent[0], recurrent[1], recurrent[2]}, size_of(state.recurrent_dtype)}},
          .mode = StateMode::align,
          .speculative_blocks = options.speculative};
}

Status add_model(std::span<const PlannedModel> models, size_t m, const UniformPlanOptions& options,
                 std::vector<UniformLayer>* layers) {
  const PlannedModel& model = models[m];
  TRY(const auto groups, cache_groups(*model.spec, model.format));
  std::vector<std::vector<UniformSpec>> rows(model.spec->layers.size());
  for (const CacheGroup& group : groups) {
    for (const int32_t layer : group.layers) {
      const auto i = static_cast<size_t>(layer);
      const auto* state = std::get_if<StateSpec>(&model.spec->layers[i].mixer);
      rows[i].push_back(state != nullptr ? state_spec(*state, model.format.ranks, options)
                                         : token_spec(group, !rows[i].empty(), options));
    }
  }
  for (size_t i = 0; i < rows.size(); ++i) {
    for (size_t k = 0; k < rows[i].size(); ++k) {
      layers->push_back({uniform_layer_name(m, static_cast<int32_t>(i), k), rows[i][k]});
    }
  }
  return {};
}

// Attention blocks grow until they hold a state; the state's page is padded to the rest.
Status align_states(const UniformPlanOptions& options, std::vector<UniformLayer>* layers) {
  const auto state = std::find_if(layers->begin(), layers->end(),
                                  [](const UniformLayer& l) { return !l.spec.attends(); });
  const auto attention = std::find_if(layers->begin(), layers->end(),
                                      [](const UniformLayer& l) { return l.spec.attends(); });
  if (state == layers->end() || attention == layers->end()) return {};
  const bool latent = attention->spec.kind == UniformKind::latent;
  TRY(const HybridBlocks blocks,
      align_hybrid_blocks(attention->spec, state->spec,
                          {.block_tokens = options.block_tokens,
                           .kernel_block_tokens = latent ? kLatentKernelBlock : kKernelBlock,
                           .mode = StateMode::align,
                           .pack = options.pack}));
  for (UniformLayer& layer : *layers) {
    layer.spec.block_tokens =
        layer.spec.attends() ? blocks.block_tokens : blocks.state_block_tokens;
    if (!layer.spec.attends()) layer.spec.padded_page_bytes = blocks.padded_state_page_bytes;
  }
  return {};
}

double percent(int64_t part, int64_t whole) {
  return 100.0 * static_cast<double>(part) / static_cast<double>(whole);
}

// What each group of the layout lost, as sentences.
std::vector<std::string> reasons_of(const UniformLayout& layout,
                                    const UniformPlanOptions& options) {
  std::vector<std::string> reasons;
  const auto add = [&](std::string text) {
    if (std::find(reasons.begin(), reasons.end(), text) == reasons.end()) {
      reasons.push_back(std::move(text));
    }
  };
  int64_t slots = 0, n_states = 0, n_state_groups = 0;
  for (const UniformGroup& group : layout.groups) slots = std::max(slots, group.n_packs());
  int64_t empty = 0;
  for (const UniformGroup& group : layout.groups) {
    if (group.mixed()) continue;
    empty += slots - group.n_packs();
    const int64_t page = page_bytes(group), data = page_data_bytes(group);
    if (!group.spec.attends()) n_states += group.n_packs(), ++n_state_groups;
    if (group.spec.block_tokens != options.block_tokens && group.spec.attends()) {
      add(fmt::format("{} blocks grow from {} to {} tokens so that all pages have {} bytes",
                      name(group.spec.kind), options.block_tokens, group.spec.block_tokens, page));
    }
    if (page > data) {
      add(fmt::format("{} pages hold {} bytes and are padded to {}: {:.2f} % of them is empty",
                      name(group.spec.kind), data, page, percent(page - data, page)));
    }
  }
  if (layout.groups.size() > 1) {
    add(fmt::format("layers are dealt into {} groups of {}: {} of {} places stay empty",
                    layout.groups.size(), slots, empty,
                    slots * static_cast<int64_t>(layout.groups.size())));
  }
  if (n_states > 0) {
    add(fmt::format("a request holds {} states per state layer and a prefix ends at a whole block",
                    2 + options.speculative));
  }
  return reasons;
}

Result<UniformPoint> uniform_point(const UniformLayout& layout, UniformLimits limits,
                                   int32_t n_tokens, const UniformPlanOptions& options) {
  limits.max_model_len = n_tokens;
  TRY(const UniformCapacity last, uniform_capacity(layout, limits));
  limits.max_in_flight_tokens = 1 + options.speculative;
  TRY(const UniformCapacity others, uniform_capacity(layout, limits));
  int64_t last_blocks = 0, blocks = 0;
  for (const int64_t count : last.blocks_per_request) last_blocks += count;
  for (const int64_t count : others.blocks_per_request) blocks += count;
  const int64_t left = layout.n_blocks - last_blocks;
  return UniformPoint{.n_tokens = n_tokens,
                      .bytes = blocks * block_bytes(layout.groups),
                      .n_sequences = left < 0 || blocks == 0 ? 0 : 1 + left / blocks,
                      .max_concurrency = last.max_concurrency};
}

}  // namespace

std::string uniform_layer_name(size_t model, int32_t layer, size_t row) {
  return fmt::format("{}.{}{}", model == 0 ? "layers" : "draft", layer, row == 0 ? "" : ".index");
}

UniformOptions uniform_options(std::span<const UniformLayer> layers,
                               const UniformPlanOptions& options) {
  UniformOptions pool{.max_in_flight_tokens = options.step_tokens,
                      .cache_block_tokens = options.block_tokens,
                      .state_mode = StateMode::align,
                      .pack = options.pack};
  for (const UniformLayer& layer : layers) {
    if (!layer.spec.attends()) pool.cache_block_tokens = layer.spec.block_tokens;
  }
  return pool;
}

Result<std::vector<UniformLayer>> uniform_layers(std::span<const PlannedModel> models,
                                                 const UniformPlanOptions& options) {
  std::vector<UniformLayer> layers;
  for (size_t m = 0; m < models.size(); ++m) {
    TRY_STATUS(add_model(models, m, options, &layers));
  }
  TRY_STATUS(align_states(options, &layers));
  return layers;
}

Result<UniformPlan> uniform_plan(std::span<const PlannedModel> models,
                                 std::span<const int32_t> lengths,
                                 const UniformPlanOptions& options) {
  CHECK(!lengths.empty());
  TRY(std::vector<UniformLayer> layers, uniform_layers(models, options));
  UniformOptions pool = uniform_options(layers, options);
  pool.max_model_len = *std::min_element(lengths.begin(), lengths.end());
  UniformPlan plan;
  TRY(plan.layout, uniform_layout(std::move(layers), options.memory_bytes, pool));
  TRY(plan.grain, uniform_grain(plan.layout.groups, pool));
  for (const int32_t n_tokens : lengths) {
    TRY(const UniformPoint point, uniform_point(plan.layout, pool.limits(), n_tokens, options));
    plan.points.push_back(point);
  }
  plan.reasons = reasons_of(plan.layout, options);
  return plan;
}

}  // namespace ashlar
