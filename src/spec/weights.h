#pragma once

// The weights of a model as a tree. With T = WeightRow it says what a checkpoint must hold (names,
// shapes, where each piece lies); with T = Matrix it is the loaded model. Loader, checker and
// dummy filler all walk the one tree; nothing is found by comparing strings twice.

#include <array>
#include <string>
#include <vector>

#include "spec/model.h"
#include "tensor/matrix.h"

namespace ashlar {

// One place a weight may be found: a tensor of the file, or a part of one: contiguous, or in runs
// of run_elements that begin run_stride apart (gathered into memory of its own at load), whose
// elements may lie apart too: a row of a matrix that is stored transposed.
//
// With `scales` the tensor holds MXFP4 codes [.., K/32, 16] u8, and `scales` names its scales
// [.., K/32] u8 (tensor/matrix.h). Elements are bytes of codes then and a run is a row: both are
// used where they lie.
struct WeightSource {
  std::string tensor;
  Shape tensor_shape;
  int64_t first_element = 0;
  int64_t run_elements = 0;  // 0: contiguous
  int64_t run_stride = 0;
  int64_t element_stride = 1;  // within a run
  std::string scales = {};
  // Not 0: the tensor's rows may be stored as T chunks one after another, T any divisor of this,
  // each made like the whole with a T-th of every weight's rows and a scale grid of its own
  // (training ranks joined end to end). The fields above say where the weight lies if T is 1.
  int64_t most_chunks = 0;

  // Of the weight's i-th element, in the tensor.
  int64_t element(int64_t i) const {
    if (run_elements == 0) return first_element + i;
    return first_element + i / run_elements * run_stride + i % run_elements * element_stride;
  }
};

enum class WeightForm : uint8_t {
  matrix,  // used as stored, codes with scales too (elements may be converted to another type)
  table,   // a matrix of elements: its rows are looked up
  exact,   // a matrix of elements used as stored whatever type is asked for
  vector,  // small, widened to f32 at load
};

// Absent (this model has no such weight) iff sources is empty.
struct WeightRow {
  std::vector<WeightSource> sources;  // spellings; the first one present is taken
  Shape shape;
  WeightForm form = WeightForm::matrix;
  bool optional = false;    // may be missing from the checkpoint; its view is null then
  float add = 0.0f;         // to every element of a vector at load: norms stored as weight - 1
  float dummy_mean = 0.0f;  // --load-format dummy: normal(mean, spread), `add` included
  float dummy_spread = 0.0f;
};

// A branch of the tree; fields() lists its weights, for whoever walks them. T is absent where a
// layer has no such weight.
template <class T>
struct AttentionTree {
  T q, k, v;  // [heads * k_dim, H], [kv_heads * k_dim, H], [kv_heads * v_dim, H]
  T o;        // [H, heads * v_dim]
  T q_bias, k_bias, v_bias, o_bias;
  T q_norm, k_norm;  // [k_dim]
  T sinks;           // [heads]
  T gate;            // [heads * v_dim, H], of the output

  template <class Tree>
  static auto fields(Tree& t) {
    return std::array{&t.q,      &t.k,      &t.v,      &t.o,      &t.q_bias, &t.k_bias,
                      &t.v_bias, &t.o_bias, &t.q_norm, &t.k_norm, &t.sinks,  &t.gate};
  }
};

// Queries come from q alone, or through a latent of their own: q_b(norm(q_a x)).
template <class T>
struct LatentTree {
  T q;              // [heads * (nope + rope), H]
  T q_a, q_a_norm;  // [q_lora, H], [q_lora]
  T q_b;            // [heads * (nope + rope), q_lora]
  T kv_a;           // [kv_lora + rope, H]
  T kv_a_norm;      // [kv_lora]
  T kv_b;           // [heads * (nope + v_dim), kv_lora]
  T o;              // [H, heads * v_dim]

  template <class Tree>
  static auto fields(Tree& t) {
    return std::array{&t.q, &t.q_a, &t.q_a_norm, &t.q_b, &t.kv_a, &t.kv_a_norm, &t.kv_b, &t.o};
  }
};

// A Gated DeltaNet layer. K heads Nk of Dk, V heads Nv of Dv; C = 2 Nk Dk + Nv Dv channels.
template <class T>
struct StateTree {
  T q, k, v, z;      // [Nk Dk, H] twice, [Nv Dv, H] twice
  T b, a;            // [Nv, H]
  T conv;            // [C, taps], channels in the order q, k, v
  T a_log, dt_bias;  // [Nv]
  T norm;            // [Dv]
  T o;               // [H, Nv Dv]

  template <class Tree>
  static auto fields(Tree& t) {
    return std::array{&t.q,    &t.k,     &t.v,       &t.z,    &t.b, &t.a,
                      &t.conv, &t.a_log, &t.dt_bias, &t.norm, &t.o};
  }
};

// One MLP: [I, H], [I, H], [H, I].
template <class T>
struct MlpTree {
  T gate, up, down;
  T gate_bias, up_bias, down_bias;

  template <class Tree>
  static auto fields(Tree& t) {
    return std::array{&t.gate, &t.up, &t.down, &t.gate_bias, &t.up_bias, &t.down_bias};
  }
};

template <class T>
struct MoeTree {
  T router, router_bias;  // [E, H], [E]
  T correction_bias;      // [E]
  T shared_gate;          // [1, H]
  MlpTree<T> shared;
  std::vector<MlpTree<T>> experts;

  template <class Tree>
  static auto fields(Tree& t) {
    return std::array{&t.router, &t.router_bias, &t.correction_bias, &t.shared_gate};
  }
};

template <class T>
struct LayerTree {
  T mixer_norm, mlp_norm;            // [H], of what goes in
  T mixer_post_norm, mlp_post_norm;  // [H], of what comes out
  AttentionTree<T> attention;
  LatentTree<T> latent;
  StateTree<T> state;
  MlpTree<T> mlp;
  MoeTree<T> moe;

  template <class Tree>
  static auto fields(Tree& t) {
    return std::array{&t.mixer_norm, &t.mlp_norm, &t.mixer_post_norm, &t.mlp_post_norm};
  }
};

template <class T>
struct WeightTree {
  T embedding;  // [V, H]; absent in a draft, as the head: it uses its target's
  T norm;       // [H]
  T head;       // [V, H]; absent when tied
  // Of a draft: what its target's taps pass, and what stands for the mask token's embedding.
  T fc, hidden_norm;  // [H, taps * H], [H]
  T mask_embedding;   // [H]
  std::vector<LayerTree<T>> layers;

  template <class Tree>
  static auto fields(Tree& t) {
    return std::array{&t.embedding, &t.norm, &t.head, &t.fc, &t.hidden_norm, &t.mask_embedding};
  }
};

WeightTree<WeightRow> weight_rows(const ModelSpec& model);

// Calls fn(source, target) for the weights of one branch, not of those below it.
template <template <class> class Tree, class A, class B, class Fn>
void zip_branch(const Tree<A>& from, Tree<B>* to, Fn&& fn) {
  const auto sources = Tree<A>::fields(from);
  const auto targets = Tree<B>::fields(*to);
  for (size_t i = 0; i < sources.size(); ++i) fn(*sources[i], *targets[i]);
}

// Calls fn(source, target) for every weight of the model; `to` is resized to `from`'s shape first.
template <class A, class B, class Fn>
void zip_weights(const WeightTree<A>& from, WeightTree<B>* to, Fn&& fn) {
  zip_branch(from, to, fn);
  to->layers.resize(from.layers.size());
  for (size_t i = 0; i < from.layers.size(); ++i) {
    const LayerTree<A>& a = from.layers[i];
    LayerTree<B>& b = to->layers[i];
    zip_branch(a, &b, fn);
    zip_branch(a.attention, &b.attention, fn);
    zip_branch(a.latent, &b.latent, fn);
    zip_branch(a.state, &b.state, fn);
    zip_branch(a.mlp, &b.mlp, fn);
    zip_branch(a.moe, &b.moe, fn);
    zip_branch(a.moe.shared, &b.moe.shared, fn);
    b.moe.experts.resize(a.moe.experts.size());
    for (size_t e = 0; e < a.moe.experts.size(); ++e) {
      zip_branch(a.moe.experts[e], &b.moe.experts[e], fn);
    }
  }
}

}  // namespace ashlar
