#include "spec/weights.h"

#include <cmath>

namespace ashlar {
namespace {

// Dummy matrices keep activations near unit scale: spread 1 / sqrt(fan-in).
WeightRow matrix(std::string name, int64_t rows, int64_t columns) {
  const Shape shape{rows, columns};
  return {.sources = {{std::move(name), shape}},
          .shape = shape,
          .form = WeightForm::matrix,
          .dummy_spread = 1.0f / std::sqrt(static_cast<float>(columns))};
}

WeightRow vector(std::string name, int64_t size, float dummy_mean) {
  return {.sources = {{std::move(name), {size}}},
          .shape = {size},
          .form = WeightForm::vector,
          .dummy_mean = dummy_mean};
}

AttentionTree<WeightRow> attention_rows(const AttentionSpec& a, int64_t hidden,
                                        const std::string& prefix) {
  const int64_t q_dim = int64_t{a.heads} * a.k_dim;
  const int64_t k_dim = int64_t{a.kv_heads} * a.k_dim;
  const int64_t v_dim = int64_t{a.kv_heads} * a.v_dim;
  AttentionTree<WeightRow> rows;
  rows.q = matrix(prefix + "q_proj.weight", q_dim, hidden);
  rows.k = matrix(prefix + "k_proj.weight", k_dim, hidden);
  rows.v = matrix(prefix + "v_proj.weight", v_dim, hidden);
  rows.o = matrix(prefix + "o_proj.weight", hidden, int64_t{a.heads} * a.v_dim);
  if (a.qkv_bias) {
    rows.q_bias = vector(prefix + "q_proj.bias", q_dim, 0);
    rows.k_bias = vector(prefix + "k_proj.bias", k_dim, 0);
    rows.v_bias = vector(prefix + "v_proj.bias", v_dim, 0);
  }
  if (a.o_bias) rows.o_bias = vector(prefix + "o_proj.bias", hidden, 0);
  if (a.qk_norm) {
    rows.q_norm = vector(prefix + "q_norm.weight", a.k_dim, 1);
    rows.k_norm = vector(prefix + "k_norm.weight", a.k_dim, 1);
  }
  if (a.sinks) {
    rows.sinks = vector(prefix + "attention_sink_bias", a.heads, 0);
    rows.sinks.sources.push_back({prefix + "sinks", {a.heads}});
  }
  return rows;
}

MlpTree<WeightRow> mlp_rows(int64_t inner, bool bias, int64_t hidden, const std::string& prefix) {
  MlpTree<WeightRow> rows;
  rows.gate = matrix(prefix + "gate_proj.weight", inner, hidden);
  rows.up = matrix(prefix + "up_proj.weight", inner, hidden);
  rows.down = matrix(prefix + "down_proj.weight", hidden, inner);
  if (bias) {
    rows.gate_bias = vector(prefix + "gate_proj.bias", inner, 0);
    rows.up_bias = vector(prefix + "up_proj.bias", inner, 0);
    rows.down_bias = vector(prefix + "down_proj.bias", hidden, 0);
  }
  return rows;
}

// An expert's matrices stand alone, or stacked for all experts with gate above up.
MlpTree<WeightRow> expert_rows(const MoeMlp& moe, int64_t hidden, int64_t e,
                               const std::string& prefix) {
  const int64_t inner = moe.intermediate;
  MlpTree<WeightRow> rows = mlp_rows(inner, false, hidden, fmt::format("{}{}.", prefix, e));
  const Shape gate_up{moe.n_experts, 2 * inner, hidden};
  const Shape down{moe.n_experts, hidden, inner};
  const int64_t size = inner * hidden;
  rows.gate.sources.push_back({prefix + "gate_up_proj", gate_up, 2 * e * size});
  rows.up.sources.push_back({prefix + "gate_up_proj", gate_up, (2 * e + 1) * size});
  rows.down.sources.push_back({prefix + "down_proj", down, e * size});
  return rows;
}

MoeTree<WeightRow> moe_rows(const MoeMlp& moe, int64_t hidden, const std::string& prefix) {
  MoeTree<WeightRow> rows;
  rows.router = matrix(prefix + "gate.weight", moe.n_experts, hidden);
  rows.router.form = WeightForm::exact;
  if (moe.correction_bias) {
    rows.correction_bias = vector(prefix + "gate.e_score_correction_bias", moe.n_experts, 0);
  }
  for (int64_t e = 0; e < moe.n_experts; ++e) {
    rows.experts.push_back(expert_rows(moe, hidden, e, prefix + "experts."));
  }
  return rows;
}

LayerTree<WeightRow> layer_rows(const LayerSpec& spec, int64_t hidden, const std::string& prefix) {
  LayerTree<WeightRow> rows;
  rows.mixer_norm = vector(prefix + "input_layernorm.weight", hidden, 1);
  rows.mlp_norm = vector(prefix + "post_attention_layernorm.weight", hidden, 1);
  rows.attention = attention_rows(attention_of(spec), hidden, prefix + "self_attn.");
  if (const auto* dense = std::get_if<DenseMlp>(&spec.mlp)) {
    rows.mlp = mlp_rows(dense->intermediate, dense->bias, hidden, prefix + "mlp.");
  } else {
    rows.moe = moe_rows(std::get<MoeMlp>(spec.mlp), hidden, prefix + "mlp.");
  }
  return rows;
}

}  // namespace

WeightTree<WeightRow> weight_rows(const ModelSpec& model) {
  WeightTree<WeightRow> rows;
  rows.embedding = matrix("model.embed_tokens.weight", model.vocab, model.hidden);
  rows.embedding.dummy_spread = 1.0f;
  rows.norm = vector("model.norm.weight", model.hidden, 1);
  if (!model.tied_head) rows.head = matrix("lm_head.weight", model.vocab, model.hidden);
  for (size_t i = 0; i < model.layers.size(); ++i) {
    rows.layers.push_back(
        layer_rows(model.layers[i], model.hidden, fmt::format("model.layers.{}.", i)));
  }
  return rows;
}

}  // namespace ashlar
