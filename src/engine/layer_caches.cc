#include "engine/layer_caches.h"

namespace ashlar {
namespace {

StateView state_view(const Cache& cache, const StateSpec& spec, int64_t index, int64_t n_layers) {
  return {.base = cache.page(0),
          .layer = static_cast<int32_t>(index),
          .n_layers = static_cast<int32_t>(n_layers),
          .recurrent_offset_bytes = spec.conv_shape().elements() * size_of(spec.conv_dtype),
          .conv_dtype = spec.conv_dtype};
}

}  // namespace

std::vector<LayerCache> layer_caches(const Cache& cache, const ModelSpec& spec, size_t first) {
  std::vector<LayerCache> caches(spec.layers.size());
  for (size_t g = 0; g < cache.groups().size(); ++g) {
    const CacheGroup& group = cache.groups()[g];
    for (int64_t i = 0; i < group.n_layers(); ++i) {
      const size_t layer = static_cast<size_t>(group.layers[static_cast<size_t>(i)]) - first;
      if (layer >= caches.size()) continue;  // another model's
      caches[layer].group = static_cast<int32_t>(g);
      if (const auto* state = std::get_if<StateSpec>(&spec.layers[layer].mixer)) {
        caches[layer].state = state_view(cache, *state, i, group.n_layers());
      } else {
        caches[layer].kv = cache.view(g, i);
      }
    }
  }
  return caches;
}

}  // namespace ashlar
