#pragma once

// What the latent tests share: attention's cases (sequences, chunks, poisoned pages) with rows that
// are key and value, FP8 numbers, and one call that plans and runs. Test code only.

#include "kernels/attention/attention_testing.h"
#include "kernels/latent/latent.h"
#include "kernels/latent/latent_load.h"

namespace ashlar {

// Sequences of rows; `rows` is what lies in the pages (see make_pages) and has v_dim 0.
struct LatentCase {
  LatentShape shape;
  AttnCase rows;
  float k_scale = 1.0f;
};

// The e4m3 number next to `value`, saturating; ties go up, which is all a test needs.
inline uint8_t nearest_e4m3(float value) {
  if (std::isnan(value)) return 0x7F;
  int best = 0;
  for (int step = 64; step > 0; step /= 2) {
    const auto at = static_cast<uint8_t>(best + step);
    if (at < 0x7F && e4m3_to_float(at) <= std::fabs(value)) best = at;
  }
  const float below = e4m3_to_float(static_cast<uint8_t>(best));
  if (best < 0x7E && std::fabs(value) - below >=
                         e4m3_to_float(static_cast<uint8_t>(best + 1)) - std::fabs(value)) {
    ++best;
  }
  return static_cast<uint8_t>(best | (value < 0 ? 0x80 : 0));
}

inline LatentCase random_latents(const LatentShape& shape, std::vector<SeqLength> lengths,
                                 DType dtype, Random& random) {
  const AttnShape rows{.heads = shape.heads, .k_dim = shape.latent + shape.rope, .v_dim = 0};
  LatentCase made{.shape = shape, .rows = random_case(rows, std::move(lengths), dtype, random)};
  if (dtype == DType::f8e4m3) made.k_scale = 0.37f, made.rows.compute = DType::bf16;
  return made;
}

inline LatentCase chunk_of(const LatentCase& all, size_t i, int32_t begin, int32_t end) {
  LatentCase part = all;
  part.rows = chunk_of(all.rows, i, begin, end);
  return part;
}

// Attention's pages leave FP8 rows to us; all else is poison already (0xFF is a NaN of e4m3 too).
inline std::vector<std::byte> fill_e4m3(const LatentCase& c, const Pages& pages) {
  std::vector<std::byte> memory = pages.memory();
  PagedView kv = pages.view();
  kv.base = memory.data();
  for (size_t i = 0; i < c.rows.lengths.size(); ++i) {
    for (int32_t j = 0; j < c.rows.lengths[i].kv_len; ++j) {
      std::byte* to = kv.k(pages.table(i)[j / kv.page_tokens], 0, j % kv.page_tokens);
      const float* from = c.rows.k[i].data() + int64_t{j} * kv.k_dim;
      for (int64_t k = 0; k < kv.k_dim; ++k) to[k] = std::byte{nearest_e4m3(from[k] / c.k_scale)};
    }
  }
  return memory;
}

// Plans and runs; workspace and out start as NaN.
inline std::vector<float> run_latent(LatentFn fn, const LatentCase& c, int32_t page_tokens = 16,
                                     int n_threads = 2) {
  Pool pool(n_threads);
  const Pages pages(c.rows, page_tokens);
  PagedView kv = pages.view();
  std::vector<std::byte> fp8;
  if (kv.dtype == DType::f8e4m3) {
    fp8 = fill_e4m3(c, pages);
    kv.base = fp8.data();
    kv.k_scale = c.k_scale;
  }
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
                       .kv = kv,
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
