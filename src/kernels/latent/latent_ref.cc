// The specification, in plain loops; the plan; the roof.

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/latent/latent.h"

namespace ashlar {
namespace {

double element(const std::byte* row, DType dtype, int64_t i) {
  if (dtype == DType::f32) return reinterpret_cast<const float*>(row)[i];
  if (dtype == DType::bf16) return to_float(reinterpret_cast<const Bf16*>(row)[i]);
  if (dtype == DType::f16) return to_float(reinterpret_cast<const F16*>(row)[i]);
  if (dtype == DType::f8e4m3) return to_float(reinterpret_cast<const F8E4M3*>(row)[i]);
  CHECK(dtype == DType::f8e5m2, "{} pages", name(dtype));
  return to_float(reinterpret_cast<const F8E5M2*>(row)[i]);
}

// One head of the token in row `row` of q, which sees positions [0, end).
void attend_row(const AttnShape& shape, const LatentParams& p, const AttnSeq& seq, int64_t row,
                int32_t end, int32_t head) {
  const int64_t place = row * shape.heads + head;
  const float* q = reinterpret_cast<const float*>(p.q.data) + place * shape.k_dim;
  float* out = reinterpret_cast<float*>(p.out.data) + place * shape.v_dim;
  std::vector<double> scores;
  double max = -std::numeric_limits<double>::infinity();
  const auto row_of = [&](int32_t j) {
    return p.kv.k(seq.pages[j / p.kv.page_tokens], 0, j % p.kv.page_tokens);
  };
  const auto scale_of = [&](int32_t j) -> double {
    if (!p.kv.has_token_scales()) return is_f8(p.kv.dtype) ? p.kv.k_scale : 1.0f;
    return *p.kv.k_token_scale(seq.pages[j / p.kv.page_tokens], 0, j % p.kv.page_tokens);
  };
  for (int32_t j = 0; j < end; ++j) {
    double dot = 0;
    for (int64_t i = 0; i < shape.k_dim; ++i) {
      const double query = p.compute == DType::bf16 ? to_float(to_bf16(q[i])) : q[i];
      dot += query * element(row_of(j), p.kv.dtype, i) * scale_of(j);
    }
    scores.push_back(dot * p.scale);
    max = std::max(max, scores.back());
  }
  double sum = 0;
  std::vector<double> total(static_cast<size_t>(shape.v_dim));
  for (int32_t j = 0; j < end; ++j) {
    const double weight = std::exp(scores[static_cast<size_t>(j)] - max);
    sum += weight;
    for (size_t i = 0; i < total.size(); ++i) {
      total[i] += weight * element(row_of(j), p.kv.dtype, static_cast<int64_t>(i)) * scale_of(j);
    }
  }
  for (size_t i = 0; i < total.size(); ++i) out[i] = static_cast<float>(total[i] / sum);
}

}  // namespace

AttnPlan plan_latent(const LatentShape& shape, std::span<const AttnSeq> seqs, int n_threads) {
  CHECK(shape.heads >= 1 && shape.latent >= 1 && shape.rope >= 0, "{} heads, latent {} rope {}",
        shape.heads, shape.latent, shape.rope);
  // A KV head of the plan is a share of the heads; all of them read the pages' one head.
  int32_t shares = 1;
  while (shape.heads % shares != 0 || shape.heads / shares > kMaxQueriesPerKvHead) ++shares;
  return plan_attention({.heads = shape.heads,
                         .kv_heads = shares,
                         .k_dim = shape.latent + shape.rope,
                         .v_dim = shape.latent},
                        seqs, n_threads);
}

void latent_ref(const AttnPlan& plan, const LatentParams& p, Pool&) {
  for (const AttnSeq& seq : plan.seqs) {
    for (int32_t token = 0; token < seq.q_len; ++token) {
      for (int32_t head = 0; head < plan.shape.heads; ++head) {
        attend_row(plan.shape, p, seq, seq.q_begin + token, seq.kv_len - seq.q_len + token + 1,
                   head);
      }
    }
  }
}

Roof roof(const AttnPlan& plan, const LatentParams& p) {
  const AttnShape& shape = plan.shape;
  Roof roof;
  for (const AttnSeq& seq : plan.seqs) {
    if (seq.q_len == 0) continue;
    const double q_len = seq.q_len, width = shape.k_dim + shape.v_dim;
    roof.bytes += static_cast<double>(seq.kv_len) *
                      static_cast<double>(shape.k_dim * size_of(p.kv.dtype) +
                                          (p.kv.has_token_scales() ? int64_t{sizeof(float)} : 0)) +
                  q_len * shape.heads * width * 4;
    roof.flops += (q_len * seq.kv_len - q_len * (q_len - 1) / 2) * shape.heads * 2 * width;
  }
  return roof;
}

}  // namespace ashlar
