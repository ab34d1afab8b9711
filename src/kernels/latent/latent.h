#pragma once

// Attention over paged latents (MLA, absorbed): all heads of a token read one row per position, a
// compressed latent and a rotated part, and the latent is both key and value.
//
//   row[j] = latent[j] | rope[j]                                   (one per position, one head)
//   s[t, h, j] = scale * dot(q[t, h], row[j]),  j <= position of t
//   out[t, h] = sum_j softmax(s[t, h])[j] latent[j]
//
// q is absorbed already (q_nope * W_uk | rotated q_rope) and out still stands before W_uv
// (DeepSeek-V2, 2.1). An FP8 row stands for stored * kv.k_scale, or its own token's scale,
// as key and as value.
//
// This is attention with K of width latent + rope whose first `latent` elements are V: the same
// plan, the same tiles and splits at fixed absolute positions, hence the same law: a row's result
// does not depend on the batch, on chunking, on page size or on the number of threads, bit for bit.
//
// Rows are written by kv_write with pages of kv_heads 1 and v_dim 0.
//
// plan_latent() once per step and group, latent() per layer. Engine thread. Kernels do not
// allocate.

#include "kernels/attention/attention.h"

namespace ashlar {

struct LatentShape {
  int32_t heads = 1;
  int32_t latent = 0;
  int32_t rope = 0;
  bool operator==(const LatentShape&) const = default;
};

// REQUIRES latent >= 1 and q_len <= kv_len. More than kMaxQueriesPerKvHead heads are divided evenly
// among blocks that each read the rows; a number of heads without a fitting divisor is right, but
// slow.
AttnPlan plan_latent(const LatentShape& shape, std::span<const AttnSeq> seqs, int n_threads);

struct LatentParams {
  ConstView q;   // [T, H, latent + rope] f32, dense
  View out;      // [T, H, latent] f32, dense
  PagedView kv;  // f32, bf16, f16 or FP8 pages; kv_heads 1, k_dim latent + rope, v_dim 0
  float scale = 1.0f;
  // f32, or bf16 (bf16 and FP8 pages only): q is rounded to bf16, and so are the probabilities
  // where the instruction set multiplies in bf16.
  DType compute = DType::bf16;
  std::span<std::byte> workspace;  // at least plan.workspace_bytes, 64-byte aligned
};

using LatentFn = void (*)(const AttnPlan&, const LatentParams&, Pool&);

void latent_ref(const AttnPlan& plan, const LatentParams& params, Pool& pool);
LatentFn latent_cpu(Isa isa);

// Bytes: visible rows once per sequence, q and out. Flops: 2 * (2 latent + rope) per head and
// visible pair.
Roof roof(const AttnPlan& plan, const LatentParams& params);

}  // namespace ashlar
