// The bf16 dot product loop: a file of its own, since the functions carry their target.

#include <immintrin.h>

#include "kernels/machine_roof.h"

namespace ashlar {

__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16"))) RoofFlops roof_bf16_dot(
    int64_t n_steps) {
  constexpr int kChains = 16;  // two units of latency six need twelve
  __m512 chain[kChains];
  for (int i = 0; i < kChains; ++i) chain[i] = _mm512_set1_ps(static_cast<float>(i));
  const __m512bh ones = (__m512bh)_mm512_set1_epi32(0x3F803F80);
  for (int64_t step = 0; step < n_steps; ++step) {
#pragma GCC unroll 16
    for (int i = 0; i < kChains; ++i) chain[i] = _mm512_dpbf16_ps(chain[i], ones, ones);
  }
  __m512 sum = chain[0];
  for (int i = 1; i < kChains; ++i) sum = _mm512_add_ps(sum, chain[i]);
  // 32 products and 32 sums a step and chain.
  return {.flops = 64.0 * kChains * static_cast<double>(n_steps), .result = _mm512_cvtss_f32(sum)};
}

}  // namespace ashlar
