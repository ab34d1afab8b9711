#include "spec/groups.h"

#include <algorithm>

#include "base/checked.h"
#include "tensor/paged.h"

namespace ashlar {

const char* name(LayerKind kind) {
  constexpr const char* kNames[] = {"full", "window", "chunk", "latent", "state"};
  static_assert(std::size(kNames) == kLayerKinds);
  return kNames[static_cast<size_t>(kind)];
}

int64_t CacheGroup::page_bytes() const { return round_up(page_data_bytes(), kGranuleBytes); }

std::vector<CacheGroup> cache_groups(const ModelSpec& model, DType dtype, int32_t page_tokens) {
  std::vector<CacheGroup> groups;
  for (size_t i = 0; i < model.layers.size(); ++i) {
    const AttentionSpec& a = model.layers[i].attention;
    const auto same = [&](const CacheGroup& g) {
      return g.window == a.window && g.kv_heads == a.kv_heads && g.k_dim == a.k_dim &&
             g.v_dim == a.v_dim;
    };
    auto group = std::find_if(groups.begin(), groups.end(), same);
    if (group == groups.end()) {
      groups.push_back({.kind = a.window > 0 ? LayerKind::window : LayerKind::full,
                        .kv_heads = a.kv_heads,
                        .k_dim = a.k_dim,
                        .v_dim = a.v_dim,
                        .window = a.window,
                        .page_tokens = page_tokens,
                        .dtype = dtype});
      group = std::prev(groups.end());
    }
    group->layers.push_back(static_cast<int32_t>(i));
  }
  return groups;
}

}  // namespace ashlar
