#include "model/step_roof.h"

#include <algorithm>

namespace ashlar {
namespace {

// What one layer's mixer costs: matrix elements read and multiplied by every row, and what the step
// reads of the cache and computes on it.
struct MixerCost {
  double elements = 0;
  double cache_bytes = 0;
  double flops = 0;
};

// The keys that `rows` queries ending at kv_len see, summed.
double visible_pairs(int32_t window, const StepSize& step) {
  double pairs = 0;
  for (int64_t p = step.kv_len - step.rows; p < step.kv_len; ++p) {
    pairs += static_cast<double>(window > 0 ? std::min<int64_t>(p + 1, window) : p + 1);
  }
  return pairs;
}

MixerCost cost(const AttentionSpec& a, double hidden, DType cache, const StepSize& step) {
  const double q = a.heads * a.k_dim, k = a.kv_heads * a.k_dim, v = a.kv_heads * a.v_dim;
  const double out = a.heads * a.v_dim;
  const int64_t seen =
      a.window > 0 ? std::min<int64_t>(step.kv_len, a.window - 1 + step.rows) : step.kv_len;
  return {
      .elements = hidden * (q + k + v + out + (a.output_gate ? out : 0)),
      .cache_bytes = static_cast<double>(seen * a.kv_heads * (a.k_dim + a.v_dim) * size_of(cache)),
      .flops = visible_pairs(a.window, step) * 2.0 * a.heads * (a.k_dim + a.v_dim)};
}

MixerCost cost(const LatentSpec& l, double hidden, DType cache, const StepSize& step) {
  const double head = l.nope_dim + l.rope_dim, heads = l.heads;
  const double queries = l.q_lora == 0 ? hidden * heads * head : l.q_lora * (hidden + heads * head);
  const double absorbed = heads * l.kv_lora * (l.nope_dim + l.v_dim);
  return {.elements = queries + hidden * l.row_dim() + absorbed + hidden * heads * l.v_dim,
          .cache_bytes = static_cast<double>(step.kv_len * l.row_dim() * size_of(cache)),
          .flops = visible_pairs(0, step) * 2.0 * heads * (l.row_dim() + l.kv_lora)};
}

// The state is read and written once, whatever the rows.
MixerCost cost(const StateSpec& s, double hidden, DType, const StepSize& step) {
  const double values = s.heads * s.value_dim;
  const double channels = static_cast<double>(s.conv_shape()[1]);
  return {.elements = hidden * (channels + 2 * values + 2 * s.heads),
          .cache_bytes = 2.0 * static_cast<double>(s.bytes()),
          .flops = static_cast<double>(step.rows) * 7.0 * values * s.key_dim};
}

MixerCost cost(std::monostate, double, DType, const StepSize&) { return {}; }

}  // namespace

Roof step_roof(const ModelSpec& model, DType matrix, DType cache, const StepSize& step) {
  const double hidden = model.hidden;
  const double rows = static_cast<double>(step.n_sequences * step.rows);
  const double n_sequences = static_cast<double>(step.n_sequences);
  double read_elements = 0;  // of matrices
  double row_elements = 0;   // multiplied per row
  double cache_bytes = 0, attention_flops = 0;
  for (const LayerSpec& layer : model.layers) {
    const MixerCost mixer =
        std::visit([&](const auto& spec) { return cost(spec, hidden, cache, step); }, layer.mixer);
    read_elements += mixer.elements;
    row_elements += mixer.elements;
    cache_bytes += n_sequences * mixer.cache_bytes;
    attention_flops += n_sequences * mixer.flops;
    if (const auto* moe = std::get_if<MoeMlp>(&layer.mlp)) {
      const double expert = 3 * hidden * moe->intermediate;
      const double router = hidden * (moe->n_experts + 3.0 * moe->shared);
      read_elements += router + expert * std::min<double>(moe->n_experts, rows * moe->top_k);
      row_elements += router + expert * moe->top_k;
    } else {
      const double mlp = 3 * hidden * std::get<DenseMlp>(layer.mlp).intermediate;
      read_elements += mlp;
      row_elements += mlp;
    }
  }
  const double head = hidden * model.vocab;
  const double head_rows = static_cast<double>(step.n_sequences * step.logit_rows);
  return {.bytes = (read_elements + head) * static_cast<double>(size_of(matrix)) + cache_bytes,
          .flops = 2 * (row_elements * rows + head * head_rows) + attention_flops};
}

}  // namespace ashlar
