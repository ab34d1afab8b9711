#pragma once

// What the latent tests share: attention's cases (sequences, chunks, poisoned pages) with rows that
// are key and value, and one call that plans and runs. Test code only.

#include "kernels/attention/attention_testing.h"
#include "kernels/latent/latent.h"

namespace ashlar {

// Sequences of rows; `rows` is what lies in the pages (see make_pages) and has v_dim 0.
struct LatentCase {
  LatentShape shape;
  AttnCase rows;
};

inline LatentCase random_latents(const LatentShape& shape, std::vector<SeqLength> lengths,
                                 DType dtype, Random& random) {
  const AttnShape rows{.heads = shape.heads, .k_dim = shape.latent + shape.rope, .v_dim = 0};
  LatentCase made{.shape = shape, .rows = random_case(rows, std::move(lengths), dtype, random)};
  if (is_f8(dtype)) made.rows.k_scale = 0.37f, made.rows.compute = DType::bf16;
  return made;
}

inline LatentCase chunk_of(const LatentCase& all, size_t i, int32_t begin, int32_t end) {
  LatentCase part = all;
  part.rows = chunk_of(all.rows, i, begin, end);
  return part;
}

// Plans and runs; workspace and out start as NaN.
inline std::vector<float> run_latent(LatentFn fn, const LatentCase& c, int32_t page_tokens = 16,
                                     int n_threads = 2) {
  Pool pool(n_threads);
  const Pages pages(c.rows, page_tokens);
  const std::vector<AttnSeq> seqs = sequences(c.rows, pages);
  const AttnPlan plan = plan_latent(c.shape, seqs, n_threads);
  struct alignas(64) Line {
    std::byte bytes[64];
  };
  std::vector<Line> workspace(static_cast<size_t>(plan.workspace_bytes + 63) / 64);
  std::memset(static_cast<void*>(workspace.data()), 0xFF, workspace.size() * sizeof(Line));
  const int64_t n = c.rows.n_tokens(), heads = c.shape.heads;
  std::vector<float> out = poisoned(static_cast<size_t>(n * heads * c.shape.latent));
  const LatentParams p{.q = view(c.rows.q, {n, heads, c.shape.latent + c.shape.rope}),
                       .out = view(out, {n, heads, c.shape.latent}),
                       .kv = pages.view(),
                       .scale = c.rows.scale,
                       .compute = c.rows.compute,
                       .workspace = {reinterpret_cast<std::byte*>(workspace.data()),
                                     static_cast<size_t>(plan.workspace_bytes)}};
  fn(plan, p, pool);
  return out;
}

inline std::string text(const LatentCase& c) {
  return fmt::format("latent {} rope {}, {}", c.shape.latent, c.shape.rope, text(c.rows));
}

}  // namespace ashlar
