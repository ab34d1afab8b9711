#pragma once

// What one layer is, as features. No family names here: a family is a function that fills these
// rows (spec/families), and every other room reads rows.

#include <cstdint>
#include <variant>
#include <vector>

#include "base/check.h"
#include "tensor/dtype.h"
#include "tensor/view.h"

namespace ashlar {

// How a head's dims are paired for rotation: i with i + R, or 2i with 2i + 1.
enum class RopeStyle : uint8_t { halves, interleaved };

// Rotary frequencies of some layers, already scaled; the first 2 * inv_freq.size() dims of a head
// turn.
struct RopeSpec {
  std::vector<float> inv_freq;
  float amplitude = 1.0f;  // multiplies cos and sin (YaRN)
  RopeStyle style = RopeStyle::halves;
  bool operator==(const RopeSpec&) const = default;
};

// Softmax attention with its own K and V per token. A query sees every earlier token, or the last
// `window` ones, or those of its own aligned chunk (window and chunk exclude each other).
struct AttentionSpec {
  int32_t heads = 0;
  int32_t kv_heads = 0;
  int32_t k_dim = 0;  // of queries and keys
  int32_t v_dim = 0;
  int32_t window = 0;  // tokens a query sees, itself included; 0: all
  int32_t chunk = 0;   // a query at p sees from floor(p / chunk) * chunk on; 0: all
  float scale = 1.0f;
  float softcap = 0.0f;      // 0: none
  float value_scale = 1.0f;  // V is multiplied by this before it is cached
  bool sinks = false;        // one learned extra logit per head
  bool qk_norm = false;      // RMSNorm per head on q and k, before rotation
  bool qkv_bias = false;
  bool o_bias = false;
  bool fused_qkv = false;    // the checkpoint stores the three projections as one matrix
  bool output_gate = false;  // the output is multiplied by the sigmoid of a second query projection
  bool causal = true;        // false: the rows of one step see each other, later ones too
  int32_t rope = 0;          // index into ModelSpec::ropes; kNoRope: positions do not enter
};

constexpr int32_t kNoRope = -1;

// Multi-head latent attention (DeepSeek-V2, 2024, section 2.1): K and V of all heads are products
// of one cached latent; beside it one rotated key shared by all heads. The cache row of a token is
// [latent | rotated key].
struct LatentSpec {
  int32_t heads = 0;
  int32_t q_lora = 0;     // rank of the query's own latent; 0: queries are projected directly
  int32_t kv_lora = 0;    // dims of the cached latent
  int32_t nope_dim = 0;   // of a head's query and key, not rotated
  int32_t rope_dim = 0;   // of a head's query and of the shared key
  int32_t v_dim = 0;      // of a head
  int32_t index_dim = 0;  // of the sparse index's cached key; 0: every token is attended
  int32_t index_heads = 0;
  int32_t index_topk = 0;  // tokens the index lets a query see
  float scale = 1.0f;
  float norm_eps = 1e-6f;  // of the two latents' own norms, whatever the model's
  int32_t rope = 0;  // index into ModelSpec::ropes; kNoRope: rope_dim is there but is not rotated

  int32_t row_dim() const { return kv_lora + rope_dim; }
};

// How a recurrent layer's state S forgets and learns, per token.
enum class Recurrence : uint8_t {
  channel_scan,   // S[d, n] decays per channel and state dim, learns an outer product (Mamba, 2023)
  head_scan,      // one decay per head (Mamba-2, 2024)
  delta,          // one decay per head, learns the error of its own prediction (Gated DeltaNet)
  channel_delta,  // the same with a decay per key dim (Kimi Delta Attention)
};

// A layer that keeps a state of fixed size instead of tokens: the inputs of a short causal
// convolution and the recurrence's own state. Sizes are of the whole model; `ranks` divides them.
struct StateSpec {
  Recurrence recurrence = Recurrence::delta;
  int32_t heads = 0;        // of the state; channel_scan: the channels
  int32_t value_dim = 0;    // of a head; channel_scan: 1
  int32_t key_dim = 0;      // of a head: what a query is multiplied with
  int32_t key_heads = 0;    // heads / key_heads state heads share keys; 0: keys pass no convolution
  int32_t conv_kernel = 0;  // taps
  DType conv_dtype = DType::bf16;
  DType recurrent_dtype = DType::f32;

  // Shares of one of `ranks` tensor-parallel ranks: heads are divided, key heads divided or, when
  // ranks exceed them, one on each. REQUIRES ranks to divide heads.
  Shape conv_shape(int32_t ranks = 1) const;       // [conv_kernel - 1, channels]
  Shape recurrent_shape(int32_t ranks = 1) const;  // [heads, value_dim, key_dim]
  int64_t bytes(int32_t ranks = 1) const;          // of one layer's state
};

// What a gated MLP hands to its down projection, of g = gate x and u = up x (formulas:
// kernels/act/gating.h).
enum class Activation : uint8_t {
  silu,     // silu(g) * u
  gelu,     // gelu(g) * u, the tanh form
  clamped,  // g * sigmoid(1.702 g) * (u + 1), both held within a limit
};

struct DenseMlp {
  int32_t intermediate = 0;
  bool bias = false;  // on gate, up and down
  Activation activation = Activation::silu;
};

enum class ExpertScore : uint8_t { sigmoid, softmax };

struct MoeMlp {
  int32_t n_experts = 0;
  int32_t top_k = 0;
  int32_t intermediate = 0;  // of one expert
  ExpertScore score = ExpertScore::sigmoid;
  bool correction_bias = false;
  int32_t n_group = 1;
  int32_t topk_group = 1;
  bool normalize = true;
  float scaling = 1.0f;
  int32_t shared = 0;        // width of an MLP that every token passes beside its experts; 0: none
  bool shared_gate = false;  // the shared MLP's output is multiplied by the sigmoid of x . weight
  bool bias = false;         // on the router, and on gate, up and down of every expert
  Activation activation = Activation::silu;  // of the experts
  float clamp = 7.0f;                        // of Activation::clamped
  // The checkpoint stacks all experts' gate and up with their outputs in turn: one of gate, one of
  // up.
  bool interleaved = false;
};

// What mixes tokens; none in a layer that is an MLP alone.
using Mixer = std::variant<AttentionSpec, LatentSpec, StateSpec, std::monostate>;

struct LayerSpec {
  Mixer mixer;
  std::variant<DenseMlp, MoeMlp> mlp;
};

// REQUIRES a layer of that kind: for code that runs after read_model_spec, which admits no other.
inline const AttentionSpec& attention_of(const LayerSpec& layer) {
  CHECK(std::holds_alternative<AttentionSpec>(layer.mixer), "mixer {}", layer.mixer.index());
  return *std::get_if<AttentionSpec>(&layer.mixer);
}

}  // namespace ashlar
