#pragma once

// What a multiplying thread does with the two rows it holds: which tokens they see, their softmax,
// and where their sums go. Registers are laid out as in wgmma.cuh.

#include "kernels/attention/cuda/prefill_policy.cuh"
#include "kernels/attention/tile.h"

namespace ashlar::cuda {

// This thread's columns i and i + 1 of something a tile has for each token; i is even.
__device__ inline float2 of_columns(const float* tokens, int i) {
  return *reinterpret_cast<const float2*>(tokens + 8 * (i / 4) + 2 * (threadIdx.x % 4));
}

// Scores times their tokens' scales of K.
template <int kN>
__device__ inline void scale_columns(float (&s)[kN], const float* k) {
#pragma unroll
  for (int i = 0; i < kN; i += 4) {
    const float2 scale = of_columns(k, i);
    s[i] *= scale.x, s[i + 1] *= scale.y;
    s[i + 2] *= scale.x, s[i + 3] *= scale.y;
  }
}

// Rows of a work are [token][head]; those past its end do what its last row does, in vain.
struct PrefillRows {
  int32_t begin[2], end[2];      // tokens that each row sees
  int32_t all_begin, all_end;    // tokens that every row of the warp sees
  float factor[2];               // of scores
  float max[2], sum[2];          // in units of log 2; this thread's columns' part of the sum
  int32_t tile_begin, tile_end;  // that some row sees

  __device__ static int32_t visible_begin(const AttnShape& shape, int32_t position) {
    return shape.window > 0 ? ::max(0, position - shape.window + 1) : 0;
  }

  __device__ void start(const PrefillParams& p, const PrefillWork& at, int row0, int tile_tokens) {
    const CudaWork& work = at.work;
    const int32_t position = at.seq.kv_len - at.seq.q_len;
    for (int i = 0; i < 2; ++i) {
      const int32_t token =
          ::min(work.token_begin + (row0 + 8 * i) / work.n_heads, work.token_end - 1);
      begin[i] = visible_begin(p.shape, position + token);
      end[i] = p.shape.causal ? position + token + 1 : at.seq.kv_len;
      factor[i] = p.score_factor;
      max[i] = -INFINITY;
      sum[i] = 0;
    }
    const int warp_row = row0 / 16 * 16;
    const int32_t first = ::min(work.token_begin + warp_row / work.n_heads, work.token_end - 1);
    const int32_t last =
        ::min(work.token_begin + (warp_row + 15) / work.n_heads, work.token_end - 1);
    all_begin = visible_begin(p.shape, position + last);
    all_end = p.shape.causal ? position + first + 1 : at.seq.kv_len;
    tile_begin = work.kv_begin / tile_tokens;
    tile_end = (work.kv_end + tile_tokens - 1) / tile_tokens;
  }

  template <int kN>
  __device__ void mask(float (&s)[kN], int32_t first_token) const {
    constexpr int kTokens = 2 * kN;
    if (first_token >= all_begin && first_token + kTokens <= all_end) return;
    const int32_t column = first_token + 2 * (threadIdx.x % 4);
#pragma unroll
    for (int i = 0; i < kN; ++i) {
      const int row = i / 2 % 2;
      const int32_t token = column + 8 * (i / 4) + i % 2;
      if (token < begin[row] || token >= end[row]) s[i] = -INFINITY;
    }
  }

  // Scores become exp2(score - max); returns what sums so far are to be multiplied by. Where tokens
  // have scales, weights contain V's, and so does max.
  template <int kN, class Scales = void>
  __device__ void softmax(float (&s)[kN], float softcap, float (&alpha)[2],
                          [[maybe_unused]] const Scales* scales = nullptr) {
    constexpr bool kScaled = !std::is_void_v<Scales>;
    float scale[2] = {factor[0], factor[1]};
    if (softcap > 0) {
#pragma unroll
      for (int i = 0; i < kN; ++i) {  // tanh(x) = 1 - 2 / (exp(2 x) + 1)
        const float e = exp2_approx(2 * kLog2E * scale[i / 2 % 2] * s[i]);
        if (s[i] > -INFINITY) s[i] = softcap * (1 - __fdividef(2, e + 1));
      }
      scale[0] = scale[1] = 1;
    }
    if constexpr (kScaled) {
#pragma unroll
      for (int i = 0; i < kN; i += 2) {
        const float2 more = of_columns(scales->log2_v, i);
        s[i] = fmaf(s[i], scale[i / 2 % 2], more.x);
        s[i + 1] = fmaf(s[i + 1], scale[i / 2 % 2], more.y);
      }
      scale[0] = scale[1] = 1;
    }
    float base[2];
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      float largest = s[2 * row];
#pragma unroll
      for (int i = 0; i < kN; i += 4)
        largest = fmaxf(largest, fmaxf(s[i + 2 * row], s[i + 2 * row + 1]));
      largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, 1));
      largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, 2));
      largest = fmaxf(max[row], largest * scale[row]);
      base[row] = largest == -INFINITY ? 0 : largest;
      alpha[row] = exp2_approx(max[row] - base[row]);
      max[row] = largest;
      sum[row] *= alpha[row];
    }
    float more[2] = {0, 0};  // every second column: shorter chains of additions
#pragma unroll
    for (int i = 0; i < kN; i += 2) {
      const int row = i / 2 % 2;
      float2 counted = {1, 1};
      if constexpr (kScaled) counted = of_columns(scales->inverse_v, i);
      s[i] = exp2_approx(fmaf(s[i], scale[row], -base[row]));
      s[i + 1] = exp2_approx(fmaf(s[i + 1], scale[row], -base[row]));
      sum[row] = fmaf(s[i], counted.x, sum[row]);
      more[row] = fmaf(s[i + 1], counted.y, more[row]);
    }
    sum[0] += more[0], sum[1] += more[1];
  }

  // The rows' sums over all columns, and what their sinks add; then the factor of their outputs.
  __device__ void finish(const PrefillParams& p, const CudaWork& work, int row0,
                         float (&scale)[2]) const {
    for (int i = 0; i < 2; ++i) {
      float total = sum[i] + __shfl_xor_sync(~0u, sum[i], 1);
      total += __shfl_xor_sync(~0u, total, 2);
      if (p.sinks != nullptr) {
        const int head = work.head_begin + (row0 + 8 * i) % work.n_heads;
        total += exp2_approx(p.sinks[head] * kLog2E - max[i]);
      }
      scale[i] = p.v_scale / total;
    }
  }
};

// Eight bf16 numbers: the largest magnitude, and the same as f16 times `scale`.
__device__ inline float largest_of(const uint4& bf16) {
  float largest = 0;
  for (const uint32_t word : {bf16.x, bf16.y, bf16.z, bf16.w}) {
    largest = fmaxf(largest, fabsf(__uint_as_float(word << 16)));
    largest = fmaxf(largest, fabsf(__uint_as_float(word & 0xffff0000u)));
  }
  return largest;
}
__device__ inline uint4 scaled_f16(const uint4& bf16, float scale) {
  const auto convert = [&](uint32_t word) {
    return pack<__half>(__uint_as_float(word << 16) * scale,
                        __uint_as_float(word & 0xffff0000u) * scale);
  };
  return {convert(bf16.x), convert(bf16.y), convert(bf16.z), convert(bf16.w)};
}

// Four lanes hold four words each, word i of group i; afterwards lane i has group i's four words.
__device__ inline void transpose_quad(uint32_t (&w)[4]) {
  const int lane = threadIdx.x % 4;
#pragma unroll
  for (int step = 1; step <= 2; step *= 2) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (i & step) continue;
      const bool upper = lane & step;
      const uint32_t got = __shfl_xor_sync(~0u, upper ? w[i] : w[i + step], step);
      w[i] = upper ? got : w[i];
      w[i + step] = upper ? w[i + step] : got;
    }
  }
}

// Writes the two rows' sums times `scale`, 16 bytes a lane.
template <class P, int kN>
__device__ inline void store_rows(const PrefillParams& p, const PrefillWork& at, int row0,
                                  const float (&o)[kN], const float (&scale)[2]) {
  const int v_dim = p.shape.v_dim;
  const CudaWork& work = at.work;
  const int n_rows = (work.token_end - work.token_begin) * work.n_heads;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int row = row0 + 8 * i;
    const int64_t token = at.seq.q_begin + work.token_begin + row / work.n_heads;
    const int64_t head = work.head_begin + row % work.n_heads;
    auto* out = static_cast<typename P::QHalf*>(p.out) + (token * p.shape.heads + head) * v_dim;
#pragma unroll
    for (int j = 0; j < kN / 4; j += 4) {  // 32 columns
      uint32_t words[4];
#pragma unroll
      for (int n = 0; n < 4; ++n) {
        const float* pair = o + 4 * (j + n) + 2 * i;
        words[n] = pack<typename P::QHalf>(pair[0] * scale[i], pair[1] * scale[i]);
      }
      transpose_quad(words);
      const int column = 8 * (j + static_cast<int>(threadIdx.x % 4));
      if (row < n_rows && column < v_dim)
        *reinterpret_cast<uint4*>(out + column) = {words[0], words[1], words[2], words[3]};
    }
  }
}

}  // namespace ashlar::cuda
