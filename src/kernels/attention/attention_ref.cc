// The specification, in plain loops.

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/attention/attention.h"

namespace ashlar {
namespace {

double element(const std::byte* at, DType dtype, int64_t i) {
  if (dtype == DType::f32) return reinterpret_cast<const float*>(at)[i];
  if (dtype == DType::bf16) return to_float(reinterpret_cast<const Bf16*>(at)[i]);
  if (dtype == DType::f8e4m3) return to_float(reinterpret_cast<const F8E4M3*>(at)[i]);
  if (dtype == DType::f8e5m2) return to_float(reinterpret_cast<const F8E5M2*>(at)[i]);
  CHECK(dtype == DType::f16, "{} pages", name(dtype));
  return to_float(reinterpret_cast<const F16*>(at)[i]);
}

// What a stored number of K (V) counts.
double scale_of(const PagedView& kv, bool of_v, uint32_t granule, int64_t head, int64_t slot) {
  if (!is_f8(kv.dtype)) return 1.0;
  if (!kv.has_token_scales()) return of_v ? kv.v_scale : kv.k_scale;
  return of_v ? *kv.v_token_scale(granule, head, slot) : *kv.k_token_scale(granule, head, slot);
}

// One query row: head `head` of the token at `position`.
void attend_row(const AttnShape& shape, const AttnParams& p, const AttnSeq& seq, int64_t row,
                int32_t position, int32_t head) {
  const float* q =
      reinterpret_cast<const float*>(p.q.data) + (row * shape.heads + head) * shape.k_dim;
  float* out = reinterpret_cast<float*>(p.out.data) + (row * shape.heads + head) * shape.v_dim;
  const int32_t kv_head = head / (shape.heads / shape.kv_heads);
  const int32_t begin = shape.window > 0 ? std::max(0, position - shape.window + 1) : 0;
  const int32_t end = shape.causal ? position + 1 : seq.kv_len;
  const auto granule = [&](int32_t j) { return seq.pages[j / p.kv.page_tokens]; };

  std::vector<float> query(q, q + shape.k_dim);
  if (p.compute == DType::bf16) {
    for (float& value : query) value = to_float(to_bf16(value));
  }
  std::vector<double> scores;
  double max = p.sinks ? p.sinks[head] : -std::numeric_limits<double>::infinity();
  for (int32_t j = begin; j < end; ++j) {
    const std::byte* k = p.kv.k(granule(j), kv_head, j % p.kv.page_tokens);
    double dot = 0;
    for (size_t i = 0; i < query.size(); ++i) {
      dot += query[i] * element(k, p.kv.dtype, static_cast<int64_t>(i));
    }
    const int32_t slot = j % p.kv.page_tokens;
    double s = dot * scale_of(p.kv, false, granule(j), kv_head, slot) * p.scale;
    if (p.softcap != 0.0f) s = p.softcap * std::tanh(s / p.softcap);
    scores.push_back(s);
    max = std::max(max, s);
  }
  double sum = p.sinks ? std::exp(p.sinks[head] - max) : 0.0;
  std::vector<double> total(static_cast<size_t>(shape.v_dim));
  for (int32_t j = begin; j < end; ++j) {
    const double weight = std::exp(scores[static_cast<size_t>(j - begin)] - max);
    sum += weight;
    const int32_t slot = j % p.kv.page_tokens;
    const std::byte* v = p.kv.v(granule(j), kv_head, slot);
    const double share = weight * scale_of(p.kv, true, granule(j), kv_head, slot);
    for (size_t i = 0; i < total.size(); ++i) {
      total[i] += share * element(v, p.kv.dtype, static_cast<int64_t>(i));
    }
  }
  for (size_t i = 0; i < total.size(); ++i) out[i] = static_cast<float>(total[i] / sum);
}

}  // namespace

void attention_ref(const AttnPlan& plan, const AttnParams& p, Pool&) {
  for (const AttnSeq& seq : plan.seqs) {
    for (int32_t token = 0; token < seq.q_len; ++token) {
      for (int32_t head = 0; head < plan.shape.heads; ++head) {
        attend_row(plan.shape, p, seq, seq.q_begin + token, seq.kv_len - seq.q_len + token, head);
      }
    }
  }
}

}  // namespace ashlar
