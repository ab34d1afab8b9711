#include "spec/weights.h"

#include <cmath>
#include <numeric>

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

// A norm's weight over `size` dims.
WeightRow norm(const ModelSpec& model, std::string name, int64_t size) {
  WeightRow row = vector(std::move(name), size, 1);
  if (model.centred_norms) row.add = 1;
  return row;
}

// Of `tensor`'s rows, groups of n_rows beginning with row `first`, each `stride` elements after
// the one before.
WeightRow runs(std::string name, Shape tensor, int64_t first, int64_t n_rows, int64_t stride,
               Shape shape) {
  WeightRow row = matrix(std::move(name), shape[0], shape[1]);
  WeightSource& source = row.sources.front();
  source.tensor_shape = tensor;
  source.first_element = first * tensor[1];
  source.run_elements = n_rows * tensor[1];
  source.run_stride = stride;
  return row;
}

// q, k and v one above the other in one tensor, in as many chunks as divide all heads.
void fuse(const AttentionSpec& a, int64_t hidden, const std::string& name,
          AttentionTree<WeightRow>* rows) {
  const Shape all{rows->q.shape[0] + rows->k.shape[0] + rows->v.shape[0], hidden};
  int64_t first = 0;
  for (WeightRow* row : {&rows->q, &rows->k, &rows->v}) {
    row->sources = {{.tensor = name,
                     .tensor_shape = all,
                     .first_element = first * hidden,
                     .most_chunks = std::gcd(a.heads, a.kv_heads)}};
    first += row->shape[0];
  }
}

AttentionTree<WeightRow> attention_rows(const ModelSpec& model, const AttentionSpec& a,
                                        const std::string& prefix) {
  const int64_t hidden = model.hidden;
  const int64_t q_dim = int64_t{a.heads} * a.k_dim;
  const int64_t k_dim = int64_t{a.kv_heads} * a.k_dim;
  const int64_t v_dim = int64_t{a.kv_heads} * a.v_dim;
  AttentionTree<WeightRow> rows;
  rows.q = matrix(prefix + "q_proj.weight", q_dim, hidden);
  if (a.output_gate) {  // a head's queries and its gate stand one above the other
    const Shape both{int64_t{a.heads} * (a.k_dim + a.v_dim), hidden};
    const int64_t stride = int64_t{a.k_dim + a.v_dim} * hidden;
    rows.q = runs(prefix + "q_proj.weight", both, 0, a.k_dim, stride, {q_dim, hidden});
    rows.gate = runs(prefix + "q_proj.weight", both, a.k_dim, a.v_dim, stride,
                     {int64_t{a.heads} * a.v_dim, hidden});
  }
  rows.k = matrix(prefix + "k_proj.weight", k_dim, hidden);
  rows.v = matrix(prefix + "v_proj.weight", v_dim, hidden);
  if (a.fused_qkv) fuse(a, hidden, prefix + "qkv_proj.weight", &rows);
  rows.o = matrix(prefix + "o_proj.weight", hidden, int64_t{a.heads} * a.v_dim);
  if (a.qkv_bias) {
    rows.q_bias = vector(prefix + "q_proj.bias", q_dim, 0);
    rows.k_bias = vector(prefix + "k_proj.bias", k_dim, 0);
    rows.v_bias = vector(prefix + "v_proj.bias", v_dim, 0);
  }
  if (a.o_bias) rows.o_bias = vector(prefix + "o_proj.bias", hidden, 0);
  if (a.qk_norm) {
    rows.q_norm = norm(model, prefix + "q_norm.weight", a.k_dim);
    rows.k_norm = norm(model, prefix + "k_norm.weight", a.k_dim);
  }
  if (a.sinks) {
    rows.sinks = vector(prefix + "attention_sink_bias", a.heads, 0);
    rows.sinks.sources.push_back({prefix + "sinks", {a.heads}});
  }
  return rows;
}

LatentTree<WeightRow> latent_rows(const LatentSpec& l, int64_t hidden, const std::string& prefix) {
  const int64_t q_dim = int64_t{l.heads} * (l.nope_dim + l.rope_dim);
  LatentTree<WeightRow> rows;
  if (l.q_lora == 0) {
    rows.q = matrix(prefix + "q_proj.weight", q_dim, hidden);
  } else {
    rows.q_a = matrix(prefix + "q_a_proj.weight", l.q_lora, hidden);
    rows.q_a_norm = vector(prefix + "q_a_layernorm.weight", l.q_lora, 1);
    rows.q_b = matrix(prefix + "q_b_proj.weight", q_dim, l.q_lora);
  }
  rows.kv_a = matrix(prefix + "kv_a_proj_with_mqa.weight", l.row_dim(), hidden);
  rows.kv_a_norm = vector(prefix + "kv_a_layernorm.weight", l.kv_lora, 1);
  rows.kv_b =
      matrix(prefix + "kv_b_proj.weight", int64_t{l.heads} * (l.nope_dim + l.v_dim), l.kv_lora);
  rows.o = matrix(prefix + "o_proj.weight", hidden, int64_t{l.heads} * l.v_dim);
  return rows;
}

// In one spelling each projection is a tensor, or a part of one; in the other, two tensors hold
// them key head by key head, with the value heads that share it.
StateTree<WeightRow> state_rows(const StateSpec& s, int64_t hidden, const std::string& prefix) {
  const int64_t keys = int64_t{s.key_heads} * s.key_dim;
  const int64_t values = int64_t{s.heads} * s.value_dim;
  const int64_t shared = s.heads / s.key_heads;
  const Shape flat{2 * keys + values, hidden};
  const int64_t head_rows = 2 * s.key_dim + 2 * shared * s.value_dim;
  const Shape grouped{s.key_heads * head_rows, hidden};
  // `flat_first` and `first` are rows, of the tensor and of a key head's part of it.
  const auto part = [&](int64_t n, int64_t flat_first, int64_t first, int64_t n_rows) {
    WeightRow row = matrix(prefix + "in_proj_qkv.weight", n, hidden);
    row.sources.front() = {prefix + "in_proj_qkv.weight", flat, flat_first * hidden};
    row.sources.push_back(runs(prefix + "in_proj_qkvz.weight", grouped, first, n_rows,
                               head_rows * hidden, {n, hidden})
                              .sources.front());
    return row;
  };
  const auto gate = [&](const char* name, int64_t first) {
    WeightRow row = matrix(prefix + name, s.heads, hidden);
    row.sources.push_back(runs(prefix + "in_proj_ba.weight", {2 * s.heads, hidden}, first, shared,
                               2 * shared * hidden, {s.heads, hidden})
                              .sources.front());
    return row;
  };
  StateTree<WeightRow> rows;
  rows.q = part(keys, 0, 0, s.key_dim);
  rows.k = part(keys, keys, s.key_dim, s.key_dim);
  rows.v = part(values, 2 * keys, 2 * s.key_dim, shared * s.value_dim);
  rows.z = part(values, 0, 2 * s.key_dim + shared * s.value_dim, shared * s.value_dim);
  rows.z.sources.front() = {prefix + "in_proj_z.weight", {values, hidden}};
  rows.b = gate("in_proj_b.weight", 0);
  rows.a = gate("in_proj_a.weight", shared);
  rows.conv = vector(prefix + "conv1d.weight", (2 * keys + values) * s.conv_kernel, 0);
  rows.conv.sources.front().tensor_shape = {2 * keys + values, 1, s.conv_kernel};
  rows.conv.shape = {2 * keys + values, s.conv_kernel};
  rows.a_log = vector(prefix + "A_log", s.heads, 0);
  rows.dt_bias = vector(prefix + "dt_bias", s.heads, 0);
  rows.norm = vector(prefix + "norm.weight", s.value_dim, 1);
  rows.o = matrix(prefix + "out_proj.weight", hidden, values);
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

// An expert among all in stacked tensors whose outputs are columns, `turns` matrices in turn; or,
// as MXFP4, rows.
MlpTree<WeightRow> interleaved_expert_rows(const MoeMlp& moe, int64_t hidden, int64_t e,
                                           const std::string& prefix) {
  const auto part = [&](const char* name, Shape shape, int64_t turns, int64_t first) {
    const int64_t columns = shape[1], outputs = turns * shape[0];
    WeightRow row = matrix(prefix + name, shape[0], columns);
    row.sources.front() = {.tensor = prefix + name,
                           .tensor_shape = {moe.n_experts, columns, outputs},
                           .first_element = e * columns * outputs + first,
                           .run_elements = columns,
                           .run_stride = turns,
                           .element_stride = outputs};
    if (columns % kScaleGroup != 0) return row;
    row.sources.push_back({.tensor = prefix + name + "_blocks",
                           .tensor_shape = {moe.n_experts, outputs, columns / kScaleGroup, 16},
                           .first_element = (e * outputs + first) * columns / 2,
                           .run_elements = columns / 2,
                           .run_stride = turns * columns / 2,
                           .scales = prefix + name + "_scales"});
    return row;
  };
  const auto bias = [&](const char* name, int64_t size, int64_t turns, int64_t first) {
    WeightRow row = vector(prefix + name, size, 0);
    row.sources.front() = {.tensor = prefix + name,
                           .tensor_shape = {moe.n_experts, turns * size},
                           .first_element = e * turns * size + first,
                           .run_elements = 1,
                           .run_stride = turns};
    return row;
  };
  const int64_t inner = moe.intermediate;
  MlpTree<WeightRow> rows;
  rows.gate = part("gate_up_proj", {inner, hidden}, 2, 0);
  rows.up = part("gate_up_proj", {inner, hidden}, 2, 1);
  rows.down = part("down_proj", {hidden, inner}, 1, 0);
  if (moe.bias) {
    rows.gate_bias = bias("gate_up_proj_bias", inner, 2, 0);
    rows.up_bias = bias("gate_up_proj_bias", inner, 2, 1);
    rows.down_bias = bias("down_proj_bias", hidden, 1, 0);
  }
  return rows;
}

// The MLP beside the experts has two names.
MlpTree<WeightRow> shared_rows(int64_t inner, int64_t hidden, const std::string& prefix) {
  MlpTree<WeightRow> rows = mlp_rows(inner, false, hidden, prefix + "shared_experts.");
  const MlpTree<WeightRow> other = mlp_rows(inner, false, hidden, prefix + "shared_expert.");
  zip_branch(other, &rows, [](const WeightRow& from, WeightRow& to) {
    to.sources.insert(to.sources.end(), from.sources.begin(), from.sources.end());
  });
  return rows;
}

MoeTree<WeightRow> moe_rows(const MoeMlp& moe, int64_t hidden, const std::string& prefix) {
  MoeTree<WeightRow> rows;
  const char* router = moe.interleaved ? "router" : "gate";
  rows.router = matrix(fmt::format("{}{}.weight", prefix, router), moe.n_experts, hidden);
  rows.router.form = WeightForm::exact;
  if (moe.bias) {
    rows.router_bias = vector(fmt::format("{}{}.bias", prefix, router), moe.n_experts, 0);
  }
  if (moe.correction_bias) {
    rows.correction_bias = vector(prefix + "gate.e_score_correction_bias", moe.n_experts, 0);
  }
  if (moe.shared > 0) rows.shared = shared_rows(moe.shared, hidden, prefix);
  if (moe.shared_gate) {
    rows.shared_gate = matrix(prefix + "shared_expert_gate.weight", 1, hidden);
  }
  for (int64_t e = 0; e < moe.n_experts; ++e) {
    rows.experts.push_back(moe.interleaved
                               ? interleaved_expert_rows(moe, hidden, e, prefix + "experts.")
                               : expert_rows(moe, hidden, e, prefix + "experts."));
  }
  return rows;
}

LayerTree<WeightRow> layer_rows(const ModelSpec& model, const LayerSpec& spec,
                                const std::string& prefix) {
  const int64_t hidden = model.hidden;
  LayerTree<WeightRow> rows;
  rows.mixer_norm = norm(model, prefix + "input_layernorm.weight", hidden);
  const std::string after_mixer = prefix + "post_attention_layernorm.weight";
  if (model.branch_norms) {
    rows.mixer_post_norm = norm(model, after_mixer, hidden);
    rows.mlp_norm = norm(model, prefix + "pre_feedforward_layernorm.weight", hidden);
    rows.mlp_post_norm = norm(model, prefix + "post_feedforward_layernorm.weight", hidden);
  } else {
    rows.mlp_norm = norm(model, after_mixer, hidden);
  }
  if (const auto* attention = std::get_if<AttentionSpec>(&spec.mixer)) {
    rows.attention = attention_rows(model, *attention, prefix + "self_attn.");
  } else if (const auto* latent = std::get_if<LatentSpec>(&spec.mixer)) {
    rows.latent = latent_rows(*latent, hidden, prefix + "self_attn.");
  } else if (const auto* state = std::get_if<StateSpec>(&spec.mixer)) {
    rows.state = state_rows(*state, hidden, prefix + "linear_attn.");
  }
  if (const auto* dense = std::get_if<DenseMlp>(&spec.mlp)) {
    rows.mlp = mlp_rows(dense->intermediate, dense->bias, hidden, prefix + "mlp.");
  } else {
    rows.moe = moe_rows(std::get<MoeMlp>(spec.mlp), hidden, prefix + "mlp.");
  }
  return rows;
}

// A draft has no embedding and no head, and its names begin where others' stand below "model.".
WeightTree<WeightRow> draft_rows(const ModelSpec& model) {
  const auto n_taps = static_cast<int64_t>(model.draft->taps.size());
  WeightTree<WeightRow> rows;
  rows.norm = norm(model, "norm.weight", model.hidden);
  rows.fc = matrix("fc.weight", model.hidden, n_taps * model.hidden);
  rows.hidden_norm = norm(model, "hidden_norm.weight", model.hidden);
  rows.mask_embedding = vector("mask_embedding", model.hidden, 0);
  rows.mask_embedding.optional = true;
  for (size_t i = 0; i < model.layers.size(); ++i) {
    rows.layers.push_back(layer_rows(model, model.layers[i], fmt::format("layers.{}.", i)));
  }
  return rows;
}

}  // namespace

WeightTree<WeightRow> weight_rows(const ModelSpec& model) {
  if (model.draft) return draft_rows(model);
  WeightTree<WeightRow> rows;
  rows.embedding = matrix("model.embed_tokens.weight", model.vocab, model.hidden);
  rows.embedding.form = WeightForm::table;
  rows.embedding.dummy_spread = 1.0f;
  rows.norm = norm(model, "model.norm.weight", model.hidden);
  if (!model.tied_head) rows.head = matrix("lm_head.weight", model.vocab, model.hidden);
  for (size_t i = 0; i < model.layers.size(); ++i) {
    rows.layers.push_back(layer_rows(model, model.layers[i], fmt::format("model.layers.{}.", i)));
  }
  return rows;
}

}  // namespace ashlar
