#include <cmath>
#include <vector>

#include "base/check.h"
#include "kernels/delta/causal_conv.h"

namespace ashlar {
namespace {

float load(const std::byte* row, int64_t i, DType dtype) {
  if (dtype == DType::f32) return reinterpret_cast<const float*>(row)[i];
  return to_float(reinterpret_cast<const Bf16*>(row)[i]);
}

void store(float value, std::byte* row, int64_t i, DType dtype) {
  if (dtype == DType::f32) {
    reinterpret_cast<float*>(row)[i] = value;
  } else {
    reinterpret_cast<Bf16*>(row)[i] = to_bf16(value);
  }
}

// One channel of one sequence.
void convolve(const CausalConvParams& p, const StateSeq& seq, int64_t c) {
  const DType dtype = p.state.conv_dtype;
  const int64_t channels = p.x.dim(1);
  const int32_t kept = p.taps - 1;
  float past[kMaxConvTaps] = {};  // oldest first
  for (int32_t j = 0; j < kept && seq.position > 0; ++j) {
    past[j] = load(p.state.page(seq, 0), j * channels + c, dtype);
  }
  for (int32_t i = 0; i < seq.q_len; ++i) {
    past[kept] = p.x.row<float>(seq.q_begin + i)[c];
    double u = p.bias != nullptr ? p.bias[c] : 0.0f;
    for (int32_t j = 0; j < p.taps; ++j) u += double{p.weight[c * p.taps + j]} * past[j];
    p.y.row<float>(seq.q_begin + i)[c] = static_cast<float>(u / (1.0 + std::exp(-u)));
    if (dtype == DType::bf16) past[kept] = to_float(to_bf16(past[kept]));
    for (int32_t j = 0; j < kept; ++j) past[j] = past[j + 1];
    if (seq.n_slots == 0 && i + 1 < seq.q_len) continue;
    std::byte* page = p.state.page(seq, p.state.slot_after(seq, i + 1));
    for (int32_t j = 0; j < kept; ++j) store(past[j], page, j * channels + c, dtype);
  }
}

}  // namespace

void causal_conv_ref(const CausalConvParams& p, Pool&) {
  for (const StateSeq& seq : p.seqs) {
    for (int64_t c = 0; c < p.x.dim(1); ++c) convolve(p, seq, c);
  }
}

Roof roof(const CausalConvParams& p) {
  const double channels = static_cast<double>(p.x.dim(1));
  const double state_bytes =
      channels * (p.taps - 1) * static_cast<double>(size_of(p.state.conv_dtype));
  Roof roof{.bytes = channels * 4 * (p.taps + (p.bias != nullptr ? 1 : 0))};
  for (const StateSeq& seq : p.seqs) {
    const int32_t kept = seq.n_slots > 0 ? seq.q_len : 1;
    roof.bytes += state_bytes * (kept + (seq.position > 0 ? 1 : 0)) + channels * 8 * seq.q_len;
    roof.flops += channels * seq.q_len * (2 * p.taps + 4);
  }
  return roof;
}

}  // namespace ashlar
