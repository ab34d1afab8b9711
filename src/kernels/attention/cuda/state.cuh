#pragma once

// The arithmetic of softmax states {m, d, o}: o = sum of exp2(s - m) v and d = sum of exp2(s - m)
// over some tokens, scores in units of log 2. The one place where states are added and divided,
// with every rounding written out, so that a row's bits do not depend on which kernel does it.

#include <math_constants.h>

#include "kernels/cuda/mma.cuh"

namespace ashlar::cuda {

constexpr float kLog2E = 1.44269504f;

// m as something finite: a state that saw nothing has m = -inf.
__device__ inline float reference_of(float m) { return m == -CUDART_INF_F ? 0.0f : m; }

// How two states become one.
struct Fold {
  float m, keep, take;  // the new m; the factors of what is there and of what comes

  __device__ Fold(float there, float comes) : m(fmaxf(there, comes)) {
    keep = exp2_approx(there - reference_of(m));
    take = exp2_approx(comes - reference_of(m));
  }
  __device__ float operator()(float there, float comes) const {
    return __fmaf_rn(there, keep, __fmul_rn(comes, take));
  }
};

// What o is multiplied by in the end. `sink` is a logit in units of log 2, -inf for none.
__device__ inline float final_factor(float m, float d, float sink, float v_scale) {
  const float highest = reference_of(fmaxf(m, sink));
  const float share = exp2_approx(m - highest);
  return __fdiv_rn(__fmul_rn(v_scale, share), __fmaf_rn(d, share, exp2_approx(sink - highest)));
}

__device__ inline float sink_of(const float* sinks, int head) {
  return sinks ? __fmul_rn(sinks[head], kLog2E) : -CUDART_INF_F;
}

// Two neighbours of a bf16 or f16 row, from element `i`, an even one.
__device__ inline void store_pair(void* out, bool is_bf16, int64_t i, float low, float high) {
  static_cast<uint32_t*>(out)[i / 2] =
      is_bf16 ? pack<__nv_bfloat16>(low, high) : pack<__half>(low, high);
}

}  // namespace ashlar::cuda
