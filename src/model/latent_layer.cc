#include <cstring>

#include "model/layers.h"

namespace ashlar {
namespace {

// Columns [first, first + width) of every row, as n heads.
View columns(const View& x, int64_t first, int64_t n, int64_t width) {
  View part(x.data + first * size_of(x.dtype), x.dtype, {x.dim(0), n, width});
  part.strides[0] = x.stride(0);
  return part;
}

View as_rows(const View& heads) {
  View rows(heads.data, heads.dtype, {heads.dim(0), heads.dim(2)});
  rows.strides[0] = heads.stride(0);
  return rows;
}

// q [T, heads * (nope + rope)], through the queries' own latent if there is one.
View project_queries(const StepContext& step, const LatentSpec& spec,
                     const LatentWeights& weights) {
  const int64_t n = step.n_tokens;
  const View x = step.scratch.normed(n);
  const View q = step.scratch.q(n, int64_t{spec.heads} * (spec.nope_dim + spec.rope_dim));
  if (spec.q_lora == 0) {
    step.multiply(x, weights.q, {}, q);
    return q;
  }
  const View low = step.scratch.v(n, spec.q_lora);
  step.multiply(x, weights.q_a, {}, low);
  step.normalize(low, weights.q_a_norm, spec.norm_eps, low);
  step.multiply(low, weights.q_b, {}, q);
  return q;
}

// What is cached of a token: [norm(latent) | rotated key].
View project_rows(const StepContext& step, const LatentSpec& spec, const LatentWeights& weights) {
  const View rows = step.scratch.k(step.n_tokens, spec.row_dim());
  step.multiply(step.scratch.normed(step.n_tokens), weights.kv_a, {}, rows);
  const View latents = as_rows(columns(rows, 0, 1, spec.kv_lora));
  step.normalize(latents, weights.kv_a_norm, spec.norm_eps, latents);
  return rows;
}

// [T, heads, kv_lora + rope]: queries as the cached rows are read with.
View absorb_queries(const StepContext& step, const LatentSpec& spec, const AbsorbedKv& absorbed,
                    const View& q) {
  const int64_t n = step.n_tokens, head = spec.nope_dim + spec.rope_dim;
  const View flat = step.scratch.absorbed(n, int64_t{spec.heads} * spec.row_dim());
  const View heads(flat.data, flat.dtype, {n, spec.heads, spec.row_dim()});
  View q_nope(q.data, q.dtype, {n, spec.heads, spec.nope_dim});
  q_nope.strides = {spec.heads * head, head, 1};
  View q_latent(heads.data, heads.dtype, {n, spec.heads, spec.kv_lora});
  q_latent.strides = heads.strides;
  step.multiply_heads(q_nope, absorbed.uk, q_latent);
  step.pool.each(n, [&](int64_t t, int) {
    for (int64_t h = 0; h < spec.heads; ++h) {
      std::memcpy(heads.row<float>(t) + h * spec.row_dim() + spec.kv_lora,
                  q.row<float>(t) + h * head + spec.nope_dim,
                  static_cast<size_t>(spec.rope_dim) * sizeof(float));
    }
  });
  return heads;
}

}  // namespace

void latent_layer(const StepContext& step, const LatentSpec& spec, const LatentWeights& weights,
                  const AbsorbedKv& absorbed, const LayerCache& cache, const AttnPlan& plan) {
  const int64_t n = step.n_tokens;
  const View q = project_queries(step, spec, weights);
  const View rows = project_rows(step, spec, weights);
  if (spec.rope != kNoRope) {
    const View q_heads(q.data, q.dtype, {n, spec.heads, spec.nope_dim + spec.rope_dim});
    step.rotate(q_heads, spec.rope, spec.nope_dim);
    step.rotate(columns(rows, 0, 1, spec.row_dim()), spec.rope, spec.kv_lora);
  }
  step.ops.kv_write({.k = View(rows.data, rows.dtype, {n, 1, spec.row_dim()}),
                     .v = View(rows.data, rows.dtype, {n, 1, 0}),
                     .kv = cache.kv,
                     .seqs = plan.seqs,
                     .stats = cache.writes},
                    step.pool);
  const View latents = step.scratch.latents(n, int64_t{spec.heads} * spec.kv_lora);
  const View latent_heads(latents.data, latents.dtype, {n, spec.heads, spec.kv_lora});
  step.ops.latent(plan,
                  {.q = absorb_queries(step, spec, absorbed, q),
                   .out = latent_heads,
                   .kv = cache.kv,
                   .scale = spec.scale,
                   .compute = step.cache_compute(cache.kv.dtype),
                   .workspace = step.scratch.workspace()},
                  step.pool);
  const View attended = step.scratch.attended(n, int64_t{spec.heads} * spec.v_dim);
  step.multiply_heads(latent_heads, absorbed.uv,
                      View(attended.data, attended.dtype, {n, spec.heads, spec.v_dim}));
  step.multiply(attended, weights.o, {}, step.output(), /*accumulate=*/true);
}

}  // namespace ashlar
