#pragma once

// The uniform layout (uniform.h) as a cache runs on it: the reference's groups, and an arena whose
// slabs are its blocks, so that one pool of equal blocks serves every group. Tables, index and
// kernels are those of any other layout.
//
// A block of an attention group is one page of all its layers: the i-th pack begins at i times the
// reference's page, K before V, layers of a pack one after another. A block of a state group is one
// state of each of its layers. What the reference pads stays in the page, and places of tensors
// that a group has no layer for stay behind it. A mixed group of the reference (latents beside a
// draft's K and V, say) is one group whose layers have rows of their own: their pages follow one
// another in the block.
//
// There is no null block: a table without a page says so itself, and all blocks serve.

#include "kv/layout.h"
#include "kv/plan_uniform.h"

namespace ashlar {

// Layers of a second model are numbered after the first's. As many blocks as uniform_layout()
// counts, each rounded up to whole granules. Errors: those of uniform_groups.h; exhausted when not
// one token fits; unsupported above 1 TiB, and where the reference gives layers of different shapes
// the page of the first one.
Result<CacheLayout> uniform_cache_layout(std::span<const PlannedModel> models,
                                         const UniformPlanOptions& options);

}  // namespace ashlar
