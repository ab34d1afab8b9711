#pragma once

// Token embedding: y[t] = table[ids[t]] widened to float, times `multiplier`.
// REQUIRES 0 <= ids[t] < rows of the table (the engine refuses others at the door).

#include <span>

#include "base/pool.h"
#include "tensor/view.h"

namespace ashlar {

struct EmbedParams {
  std::span<const int32_t> ids;  // [T]
  ConstView table;               // [V, H] f32, bf16 or f16
  float multiplier = 1.0f;
  View y;  // [T, H] f32
};

// A copy bound by memory: the plain loop is the implementation.
void embed(const EmbedParams& params, Pool& pool);

}  // namespace ashlar
