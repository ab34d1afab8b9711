#pragma once

// What one layer is, as features. No family names here: a family is a function that fills these
// rows (spec/families), and every other room reads rows.

#include <cstdint>
#include <variant>
#include <vector>

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

// Softmax attention with its own K and V per token; window == 0 means every earlier token.
struct AttentionSpec {
  int32_t heads = 0;
  int32_t kv_heads = 0;
  int32_t k_dim = 0;  // of queries and keys
  int32_t v_dim = 0;
  int32_t window = 0;  // tokens a query sees, itself included
  float scale = 1.0f;
  float softcap = 0.0f;      // 0: none
  float value_scale = 1.0f;  // V is multiplied by this before it is cached
  bool sinks = false;        // one learned extra logit per head
  bool qk_norm = false;      // RMSNorm per head on q and k, before rotation
  bool qkv_bias = false;
  bool o_bias = false;
  int32_t rope = 0;  // index into ModelSpec::ropes
};

struct DenseMlp {
  int32_t intermediate = 0;
  bool bias = false;  // on gate, up and down
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
};

struct LayerSpec {
  AttentionSpec attention;
  std::variant<DenseMlp, MoeMlp> mlp;
};

}  // namespace ashlar
