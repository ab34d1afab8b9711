#pragma once

// Mixture of experts in two ops: route() picks experts and weights per token, experts() runs them.
//
// route (DeepSeek-V3 section 2.1.2, and the softmax form of Qwen and DeepSeek-V2):
//   s = sigmoid(logits) or softmax(logits), in float
//   choice = s + correction_bias; with n_group > 1 only the topk_group groups with the largest sum
//   of their two best choices stay; the top_k largest choices are picked (ties: the lower expert)
//   weight = s[picked], divided by (their sum + 1e-20) if normalize, times scaling
//   A NaN score is chosen after every number; its weight stays NaN.
// experts: y[t] += sum over the picked experts, in the order of ids, of
//   weight * (down h + down_bias), h = gated(gate x + gate_bias, up x + up_bias)     (gating.h)
//
// A token's result does not depend on the other tokens of the step. Engine thread.

#include <span>

#include "base/pool.h"
#include "kernels/act/gating.h"
#include "kernels/gemm/gemm.h"
#include "kernels/isa.h"
#include "tensor/roof.h"
#include "tensor/view.h"

namespace ashlar {

constexpr int64_t kMaxExperts = 1024;

enum class RouterScore : uint8_t { sigmoid, softmax };

struct RouteParams {
  ConstView logits;                        // [T, E] f32, E <= kMaxExperts
  const float* correction_bias = nullptr;  // [E], nullable
  RouterScore score = RouterScore::sigmoid;
  int32_t top_k = 1;
  int32_t n_group = 1;
  int32_t topk_group = 1;  // REQUIRES topk_group groups to hold top_k experts
  bool normalize = true;
  float scaling = 1.0f;
  View ids;      // [T, top_k] i32, ascending within a token
  View weights;  // [T, top_k] f32
};

// The reference is the implementation: its cost is nothing beside the experts'.
void route(const RouteParams& params, Pool& pool);

// One expert's matrices as stored: pieces of stacked tensors, rows of gate and up in turn (views
// with doubled strides), and what else a Matrix can look at. All experts' are stored alike.
struct ExpertWeights {
  Matrix gate;  // [I, H]
  Matrix up;    // [I, H]
  Matrix down;  // [H, I], of the type of gate
  // f32 or bf16, any stride; no data: none.
  ConstView gate_bias = {};  // [I]
  ConstView up_bias = {};    // [I]
  ConstView down_bias = {};  // [H]
};

struct ExpertsParams {
  ConstView x;        // [T, H] f32
  ConstView ids;      // [T, top_k] i32
  ConstView weights;  // [T, top_k] f32
  std::span<const ExpertWeights> experts;
  View y;  // [T, H] f32, added to
  DType compute = DType::bf16;
  Gating gating = {};
  std::span<std::byte> workspace;  // at least experts_workspace_bytes(...), 64-byte aligned
};

using ExpertsFn = void (*)(const ExpertsParams&, Pool&);

int64_t experts_workspace_bytes(int64_t n_tokens, int64_t hidden, int64_t intermediate,
                                int64_t top_k, int64_t n_experts);

void experts_ref(const ExpertsParams& params, Pool& pool);
ExpertsFn experts_cpu(Isa isa);

Roof roof(const ExpertsParams& params);

}  // namespace ashlar
