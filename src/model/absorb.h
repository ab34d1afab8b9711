#pragma once

// Latent attention's kv_b, prepared once for the absorbed form (DeepSeek-V2, 2024, section 2.1.2).

#include "base/result.h"
#include "spec/layer.h"
#include "tensor/buffer.h"
#include "tensor/matrix.h"

namespace ashlar {

// The two halves of kv_b, head by head, as products take them: keys are absorbed into queries by
// uk, values recovered from the latents' sum by uv.
struct AbsorbedKv {
  ConstView uk;  // [H, kv_lora, nope_dim], transposed into `memory`
  ConstView uv;  // [H, v_dim, kv_lora], inside kv_b, or in `memory` if kv_b is codes
  Buffer memory;
};

// kv_b [H * (nope_dim + v_dim), kv_lora] f32, bf16 or f16, or f8e4m3, whose blocks of scales cannot
// be turned: it becomes bf16. Must outlive the result. exhausted when the system refuses the
// memory.
Result<AbsorbedKv> absorb(const LatentSpec& spec, const Matrix& kv_b);

}  // namespace ashlar
