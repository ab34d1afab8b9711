#pragma once

// Where a model's layers find their pages: what a Model is created with.

#include <vector>

#include "kv/cache.h"
#include "model/model.h"

namespace ashlar {

// Of a model whose layers the cache's groups number from `first` on: a draft's stand behind its
// target's. The views are valid while the cache is, also when it is moved.
std::vector<LayerCache> layer_caches(const Cache& cache, const ModelSpec& spec, size_t first = 0);

}  // namespace ashlar
