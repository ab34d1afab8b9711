#pragma once

// Rotary position embedding (Su et al. 2021), on part or all of a head.
//
// rope_table() fills cos and sin for a step's positions once per distinct set of frequencies;
// rope() turns pairs (a, b) of each head's dims [offset, offset + 2R) into (a cos - b sin, b cos +
// a sin) in place. Pairing: halves couples i with i + R (NEOX, "rotate half"); interleaved couples
// 2i with 2i + 1 (GPT-J, DeepSeek). Dims outside the range stay as they are.

#include <span>

#include "base/pool.h"
#include "kernels/isa.h"
#include "tensor/roof.h"
#include "tensor/view.h"

namespace ashlar {

enum class RopePairing : uint8_t { halves, interleaved };

// cos_sin [T, 2R]: R cosines then R sines of position * inv_freq[i], times `amplitude` (YaRN's
// factor). The product is taken in float, as the checkpoints' own code does.
void rope_table(std::span<const int32_t> positions, std::span<const float> inv_freq,
                float amplitude, View cos_sin);

struct RopeParams {
  View x;             // [T, H, D] f32, heads and dims dense within a row
  ConstView cos_sin;  // [T, 2R] f32
  int32_t offset = 0;
  RopePairing pairing = RopePairing::halves;
};

using RopeFn = void (*)(const RopeParams&, Pool&);

void rope_ref(const RopeParams& params, Pool& pool);
RopeFn rope_cpu(Isa isa);

Roof roof(const RopeParams& params);

}  // namespace ashlar
