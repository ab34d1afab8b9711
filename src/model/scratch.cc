#include "model/scratch.h"

#include <algorithm>

#include "base/checked.h"
#include "kernels/gemm/gemm.h"
#include "kernels/moe/moe.h"

namespace ashlar {
namespace {

// The widest row any layer needs of each kind.
struct Widths {
  int64_t q = 1, k = 1, v = 1, attended = 1, mlp = 1, top_k = 1;
  int64_t workspace_bytes = 0;
};

void widen(Widths* w, const AttentionSpec& a) {
  w->q = std::max(w->q, int64_t{a.heads} * a.k_dim);
  w->k = std::max(w->k, int64_t{a.kv_heads} * a.k_dim);
  w->v = std::max(w->v, int64_t{a.kv_heads} * a.v_dim);
  w->attended = std::max(w->attended, int64_t{a.heads} * a.v_dim);
  if (a.output_gate) w->mlp = std::max(w->mlp, int64_t{a.heads} * a.v_dim);
}

void widen(Widths* w, const LatentSpec& l) {
  w->q = std::max(w->q, int64_t{l.heads} * (l.nope_dim + l.rope_dim));
  w->k = std::max<int64_t>(w->k, l.row_dim());
  w->v = std::max<int64_t>(w->v, l.q_lora);
  w->attended = std::max(w->attended, int64_t{l.heads} * l.v_dim);
  w->mlp = std::max(w->mlp, int64_t{l.heads} * l.row_dim());
}

// q: what the convolution reads, k: what it gives, v: the gate of the output.
void widen(Widths* w, const StateSpec& s) {
  const int64_t channels = s.conv_shape()[1];
  const int64_t values = int64_t{s.heads} * s.value_dim;
  w->q = std::max(w->q, channels);
  w->k = std::max(w->k, channels);
  w->v = std::max(w->v, values);
  w->attended = std::max(w->attended, values);
  w->mlp = std::max<int64_t>(w->mlp, s.heads);
}

void widen(Widths*, std::monostate) {}

Widths widest(const ModelSpec& model, int64_t max_tokens) {
  Widths w;
  int64_t deepest = model.hidden;  // the largest K of any product
  for (const LayerSpec& layer : model.layers) {
    std::visit([&](const auto& mixer) { widen(&w, mixer); }, layer.mixer);
    if (const auto* moe = std::get_if<MoeMlp>(&layer.mlp)) {
      w.top_k = std::max<int64_t>(w.top_k, moe->top_k);
      w.mlp = std::max<int64_t>({w.mlp, moe->n_experts, moe->shared});  // router logits
      w.workspace_bytes = std::max(
          w.workspace_bytes, experts_workspace_bytes(max_tokens, model.hidden, moe->intermediate,
                                                     moe->top_k, moe->n_experts));
    } else {
      w.mlp = std::max<int64_t>(w.mlp, std::get<DenseMlp>(layer.mlp).intermediate);
    }
  }
  if (model.draft)
    deepest = std::max(deepest, static_cast<int64_t>(model.draft->taps.size()) * model.hidden);
  deepest = std::max({deepest, w.attended, w.mlp, w.v});
  w.workspace_bytes = std::max(w.workspace_bytes, gemm_workspace_bytes(max_tokens, deepest));
  return w;
}

}  // namespace

Result<Scratch> Scratch::create(const ModelSpec& model, int64_t max_tokens, int64_t max_logit_rows,
                                int64_t n_taps) {
  const Widths w = widest(model, max_tokens);
  Scratch scratch;
  struct Part {
    View* view;
    Shape shape;
    DType dtype = DType::f32;
  };
  scratch.cos_sin_.resize(model.ropes.size());
  std::vector<Part> parts = {{&scratch.hidden_, {max_tokens, model.hidden}},
                             {&scratch.normed_, {max_tokens, model.hidden}},
                             {&scratch.branch_, {max_tokens, model.hidden}},
                             {&scratch.gathered_, {max_logit_rows, model.hidden}},
                             {&scratch.logits_, {max_logit_rows, model.vocab}},
                             {&scratch.q_, {max_tokens, w.q}},
                             {&scratch.k_, {max_tokens, w.k}},
                             {&scratch.v_, {max_tokens, w.v}},
                             {&scratch.attended_, {max_tokens, w.attended}},
                             {&scratch.gate_, {max_tokens, w.mlp}},
                             {&scratch.up_, {max_tokens, w.mlp}},
                             {&scratch.taps_, {max_tokens, n_taps * model.hidden}},
                             {&scratch.ids_, {max_tokens, w.top_k}, DType::i32},
                             {&scratch.weights_, {max_tokens, w.top_k}}};
  for (size_t r = 0; r < model.ropes.size(); ++r) {
    const auto pairs = static_cast<int64_t>(model.ropes[r].inv_freq.size());
    parts.push_back({&scratch.cos_sin_[r], {max_tokens, 2 * pairs}});
  }
  int64_t bytes = 0;
  for (const Part& part : parts) bytes += round_up(part.shape.elements() * 4, 64);
  TRY(scratch.memory_, Buffer::host(static_cast<size_t>(bytes), "activations"));
  TRY(scratch.workspace_, Buffer::host(static_cast<size_t>(w.workspace_bytes), "kernel workspace"));
  int64_t offset = 0;
  for (const Part& part : parts) {
    *part.view = View(scratch.memory_.data() + offset, part.dtype, part.shape);
    offset += round_up(part.shape.elements() * 4, 64);
  }
  return scratch;
}

Status Scratch::grow_workspace(int64_t bytes) {
  if (bytes <= static_cast<int64_t>(workspace_.bytes().size())) return {};
  TRY(workspace_, Buffer::host(static_cast<size_t>(bytes), "kernel workspace"));
  return {};
}

View Scratch::dense(const View& storage, int64_t n, int64_t width) {
  CHECK(n * width <= storage.shape.elements(), "[{}, {}] of {}", n, width, storage.shape.text());
  return View(storage.data, storage.dtype, {n, width});
}

View Scratch::expert_ids(int64_t n, int64_t top_k) const { return dense(ids_, n, top_k); }
View Scratch::expert_weights(int64_t n, int64_t top_k) const { return dense(weights_, n, top_k); }

}  // namespace ashlar
