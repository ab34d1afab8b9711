#include "model/step_roof.h"

#include <algorithm>

namespace ashlar {
namespace {

// Matrix elements of one layer's projections.
double attention_elements(const AttentionSpec& a, double hidden) {
  const double q = a.heads * a.k_dim, k = a.kv_heads * a.k_dim, v = a.kv_heads * a.v_dim;
  return hidden * (q + k + v + a.heads * a.v_dim);
}

// The keys that `rows` queries ending at kv_len see, summed.
double visible_pairs(const AttentionSpec& a, const StepSize& step) {
  double pairs = 0;
  for (int64_t p = step.kv_len - step.rows; p < step.kv_len; ++p) {
    pairs += static_cast<double>(a.window > 0 ? std::min<int64_t>(p + 1, a.window) : p + 1);
  }
  return pairs;
}

}  // namespace

Roof step_roof(const ModelSpec& model, DType matrix, DType cache, const StepSize& step) {
  const double hidden = model.hidden;
  const double rows = static_cast<double>(step.n_sequences * step.rows);
  const double n_sequences = static_cast<double>(step.n_sequences);
  double read_elements = 0;  // of matrices
  double row_elements = 0;   // multiplied per row
  double cache_bytes = 0, attention_flops = 0;
  for (const LayerSpec& layer : model.layers) {
    const AttentionSpec& a = attention_of(layer);
    const double projections = attention_elements(a, hidden);
    read_elements += projections;
    row_elements += projections;
    if (const auto* moe = std::get_if<MoeMlp>(&layer.mlp)) {
      const double expert = 3 * hidden * moe->intermediate;
      const double router = hidden * moe->n_experts;
      read_elements += router + expert * std::min<double>(moe->n_experts, rows * moe->top_k);
      row_elements += router + expert * moe->top_k;
    } else {
      const double mlp = 3 * hidden * std::get<DenseMlp>(layer.mlp).intermediate;
      read_elements += mlp;
      row_elements += mlp;
    }
    const int64_t seen =
        a.window > 0 ? std::min<int64_t>(step.kv_len, a.window - 1 + step.rows) : step.kv_len;
    cache_bytes +=
        n_sequences * static_cast<double>(seen * a.kv_heads * (a.k_dim + a.v_dim) * size_of(cache));
    attention_flops += n_sequences * visible_pairs(a, step) * 2.0 * a.heads * (a.k_dim + a.v_dim);
  }
  const double head = hidden * model.vocab;
  const double head_rows = static_cast<double>(step.n_sequences * step.logit_rows);
  return {.bytes = (read_elements + head) * static_cast<double>(size_of(matrix)) + cache_bytes,
          .flops = 2 * (row_elements * rows + head * head_rows) + attention_flops};
}

}  // namespace ashlar
