#include <cstring>

#include "model/layers.h"

namespace ashlar {
namespace {

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
  const View latents = rows.columns(0, spec.kv_lora);
  step.normalize(latents, weights.kv_a_norm, spec.norm_eps, latents);
  return rows;
}

// [T, heads, kv_lora + rope]: queries as the cached rows are read with.
View absorb_queries(const StepContext& step, const LatentSpec& spec, const AbsorbedKv& absorbed,
                    const View& q) {
  const int64_t n = step.n_tokens, head = spec.nope_dim + spec.rope_dim;
  const View heads = step.scratch.absorbed(n, int64_t{spec.heads} * spec.row_dim())
                         .split(spec.heads, spec.row_dim());
  step.multiply_heads(q.split(spec.heads, head).columns(0, spec.nope_dim), absorbed.uk,
                      heads.columns(0, spec.kv_lora));
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
    step.rotate(q.split(spec.heads, spec.nope_dim + spec.rope_dim), spec.rope, spec.nope_dim);
    step.rotate(rows.split(1, spec.row_dim()), spec.rope, spec.kv_lora);
  }
  step.ops.kv_write({.k = rows.split(1, spec.row_dim()),
                     .v = rows.columns(0, 0).split(1, 0),
                     .kv = cache.kv,
                     .seqs = plan.seqs,
                     .stats = cache.writes},
                    step.pool);
  const View latents =
      step.scratch.latents(n, int64_t{spec.heads} * spec.kv_lora).split(spec.heads, spec.kv_lora);
  step.ops.latent(plan,
                  {.q = absorb_queries(step, spec, absorbed, q),
                   .out = latents,
                   .kv = cache.kv,
                   .scale = spec.scale,
                   .compute = step.cache_compute(cache.kv.dtype),
                   .workspace = step.scratch.workspace()},
                  step.pool);
  const View attended = step.scratch.attended(n, int64_t{spec.heads} * spec.v_dim);
  step.multiply_heads(latents, absorbed.uv, attended.split(spec.heads, spec.v_dim));
  step.multiply(attended, weights.o, {}, step.output(), /*accumulate=*/true);
}

}  // namespace ashlar
