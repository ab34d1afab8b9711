#pragma once

// The weights of a model as a tree. With T = WeightRow it says what a checkpoint must hold (names,
// shapes, where each piece lies); with T = ConstView it is the loaded model. Loader, checker and
// dummy filler all walk the one tree; nothing is found by comparing strings twice.

#include <string>
#include <vector>

#include "spec/model.h"
#include "tensor/view.h"

namespace ashlar {

// One place a weight may be found: a tensor of the file, or a contiguous part of one.
struct WeightSource {
  std::string tensor;
  Shape tensor_shape;
  int64_t first_element = 0;
};

enum class WeightForm : uint8_t {
  matrix,  // used as stored (or converted to the compute type)
  exact,   // a matrix used as stored whatever the compute type
  vector,  // small, widened to f32 at load
};

// Absent (this model has no such weight) iff sources is empty.
struct WeightRow {
  std::vector<WeightSource> sources;  // spellings; the first one present is taken
  Shape shape;
  WeightForm form = WeightForm::matrix;
  float dummy_mean = 0.0f;  // --load-format dummy: normal(mean, spread)
  float dummy_spread = 0.0f;
};

template <class T>
struct ExpertTree {
  T gate, up, down;  // [I, H], [I, H], [H, I]
};

template <class T>
struct LayerTree {
  T attention_norm;  // [H]
  T q, k, v;         // [heads * k_dim, H], [kv_heads * k_dim, H], [kv_heads * v_dim, H]
  T o;               // [H, heads * v_dim]
  T q_bias, k_bias, v_bias, o_bias;
  T q_norm, k_norm;  // [k_dim]
  T sinks;           // [heads]
  T mlp_norm;        // [H]
  T gate, up, down;  // dense MLP: [I, H], [I, H], [H, I]
  T gate_bias, up_bias, down_bias;
  T router, correction_bias;  // [E, H], [E]
  std::vector<ExpertTree<T>> experts;
};

template <class T>
struct WeightTree {
  T embedding;  // [V, H]
  T norm;       // [H]
  T head;       // [V, H]; absent when tied
  std::vector<LayerTree<T>> layers;
};

WeightTree<WeightRow> weight_rows(const ModelSpec& model);

// Calls fn(row, target) for every weight of the model; `to` is resized to `from`'s shape first.
template <class A, class B, class Fn>
void zip_weights(const WeightTree<A>& from, WeightTree<B>* to, Fn&& fn) {
  fn(from.embedding, to->embedding);
  fn(from.norm, to->norm);
  fn(from.head, to->head);
  to->layers.resize(from.layers.size());
  for (size_t i = 0; i < from.layers.size(); ++i) {
    const LayerTree<A>& a = from.layers[i];
    LayerTree<B>& b = to->layers[i];
    for (const auto& [source, target] : {std::pair{&a.attention_norm, &b.attention_norm},
                                         {&a.q, &b.q},
                                         {&a.k, &b.k},
                                         {&a.v, &b.v},
                                         {&a.o, &b.o},
                                         {&a.q_bias, &b.q_bias},
                                         {&a.k_bias, &b.k_bias},
                                         {&a.v_bias, &b.v_bias},
                                         {&a.o_bias, &b.o_bias},
                                         {&a.q_norm, &b.q_norm},
                                         {&a.k_norm, &b.k_norm},
                                         {&a.sinks, &b.sinks},
                                         {&a.mlp_norm, &b.mlp_norm},
                                         {&a.gate, &b.gate},
                                         {&a.up, &b.up},
                                         {&a.down, &b.down},
                                         {&a.gate_bias, &b.gate_bias},
                                         {&a.up_bias, &b.up_bias},
                                         {&a.down_bias, &b.down_bias},
                                         {&a.router, &b.router},
                                         {&a.correction_bias, &b.correction_bias}}) {
      fn(*source, *target);
    }
    b.experts.resize(a.experts.size());
    for (size_t e = 0; e < a.experts.size(); ++e) {
      fn(a.experts[e].gate, b.experts[e].gate);
      fn(a.experts[e].up, b.experts[e].up);
      fn(a.experts[e].down, b.experts[e].down);
    }
  }
}

}  // namespace ashlar
