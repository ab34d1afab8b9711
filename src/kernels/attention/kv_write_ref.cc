// The specification of kv_write, in plain loops.

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/attention/attention.h"

namespace ashlar {
namespace {

void put(std::byte* at, DType dtype, int64_t i, float value) {
  switch (dtype) {
    case DType::f32: reinterpret_cast<float*>(at)[i] = value; return;
    case DType::bf16: reinterpret_cast<Bf16*>(at)[i] = to_bf16(value); return;
    case DType::f16: reinterpret_cast<F16*>(at)[i] = to_f16(value); return;
    case DType::f8e4m3: reinterpret_cast<F8E4M3*>(at)[i] = to_f8e4m3(value); return;
    case DType::f8e5m2: reinterpret_cast<F8E5M2*>(at)[i] = to_f8e5m2(value); return;
    default: CHECK(false, "{} pages", name(dtype));
  }
}

float largest(const float* values, int64_t n, float multiplier) {
  float found = 0;
  for (int64_t i = 0; i < n; ++i) {
    const float magnitude = std::abs(values[i] * multiplier);
    if (magnitude > found) found = magnitude;  // a NaN is not
  }
  return found;
}

// One row of K or V. `scale` is the whole tensor's; token_scale, when there is one, replaces it.
void write_row(const KvWriteParams& p, const float* from, int64_t n, float multiplier, float scale,
               float* token_scale, std::byte* to, float* largest_met) {
  const F8Format& format = f8_format(p.kv.dtype);
  if (!is_f8(p.kv.dtype)) scale = 1.0f;
  if (token_scale) {
    const float bounded = std::min(largest(from, n, multiplier), std::numeric_limits<float>::max());
    *token_scale = scale = std::max(bounded / format.largest_value(), kSmallestTokenScale);
  }
  for (int64_t i = 0; i < n; ++i) {
    const float stored = from[i] * multiplier / scale;
    put(to, p.kv.dtype, i, stored);
    if (p.stats && is_f8(p.kv.dtype) && std::abs(stored) > format.half_above) ++p.stats->clipped;
  }
  if (!p.stats) return;
  p.stats->values += n;
  *largest_met = std::max(*largest_met, largest(from, n, multiplier));
}

}  // namespace

void kv_write_ref(const KvWriteParams& p, Pool&) {
  WriteStats unused;
  WriteStats& stats = p.stats ? *p.stats : unused;
  const bool own = p.kv.has_token_scales();
  for (const AttnSeq& seq : p.seqs) {
    for (int32_t token = 0; token < seq.q_len; ++token) {
      const int32_t position = seq.kv_len - seq.q_len + token;
      const uint32_t granule = seq.pages[position / p.kv.page_tokens];
      const int32_t slot = position % p.kv.page_tokens;
      for (int64_t head = 0; head < p.kv.kv_heads; ++head) {
        const int64_t row = (seq.q_begin + token) * int64_t{p.kv.kv_heads} + head;
        write_row(p, reinterpret_cast<const float*>(p.k.data) + row * p.kv.k_dim, p.kv.k_dim, 1.0f,
                  p.kv.k_scale, own ? p.kv.k_token_scale(granule, head, slot) : nullptr,
                  p.kv.k(granule, head, slot), &stats.largest_k);
        if (p.kv.v_dim == 0) continue;
        write_row(p, reinterpret_cast<const float*>(p.v.data) + row * p.kv.v_dim, p.kv.v_dim,
                  p.v_multiplier, p.kv.v_scale,
                  own ? p.kv.v_token_scale(granule, head, slot) : nullptr,
                  p.kv.v(granule, head, slot), &stats.largest_v);
      }
    }
  }
}

}  // namespace ashlar
