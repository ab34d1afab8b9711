#pragma once

// Making layers alike: the three ways in which the uniform layout brings rows that differ under one
// roof. Used by uniform_groups alone; errors as there.

#include <optional>
#include <span>
#include <vector>

#include "kv/uniform_groups.h"

namespace ashlar {

// One spec for all packs when they differ in nothing that a cache group minds; nothing when they
// differ; invalid when full layers carry two different windows or chunks. REQUIRES packs.
Result<std::optional<UniformSpec>> merged_spec(std::span<const LayerPack> packs);

// The packs keep the same tokens in blocks of the same length, whatever their geometry. REQUIRES
// packs.
bool same_tokens(std::span<const LayerPack> packs);

// Window and chunk layers beside full ones become full layers, if that makes all of one kind;
// invalid if not.
Result<std::vector<LayerPack>> promote_local(std::vector<LayerPack> packs);

// Every page as large as the largest: states and strided layers are padded, blocks of the others
// grow by a whole factor; unsupported when neither will do.
Result<std::vector<LayerPack>> unify_pages(std::vector<LayerPack> packs);

}  // namespace ashlar
