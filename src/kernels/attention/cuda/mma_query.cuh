#pragma once

// A work's queries on their way to shared memory.

#include <math_constants.h>

#include "kernels/attention/cuda/element.cuh"
#include "kernels/attention/cuda/mma_layout.cuh"
#include "kernels/attention/cuda/mma_walk.cuh"

namespace ashlar::cuda {

// Row r of a work is token r / n_heads, head r % n_heads: where it lies in q and out, in rows.
__device__ inline int64_t row_of(const MmaArgs& args, const CudaWork& work, int row) {
  const int64_t token = work.q_begin + work.token_begin + row / work.n_heads;
  return token * args.heads + work.head_begin + row % work.n_heads;
}
__device__ inline int rows_of(const CudaWork& work) {
  return (work.token_end - work.token_begin) * work.n_heads;
}

// Queries of the pages' type are copied as they are; rows beyond the work's are zeros.
template <class L>
__device__ void copy_queries(const MmaArgs& args, const CudaWork& work, uint32_t to) {
  constexpr int kUnits = L::kKeyWidth / 8;
  const int n_rows = rows_of(work);
  for (int i = static_cast<int>(threadIdx.x); i < L::kTeam * kMmaRows * kUnits; i += kMmaThreads) {
    const int row = i / kUnits, unit = i % kUnits;
    const bool valid = row < n_rows;
    const auto* from = static_cast<const std::byte*>(args.q) +
                       (valid ? row_of(args, work, row) * L::kKeyWidth * 2 + unit * 16 : 0);
    copy_async_16(to + static_cast<uint32_t>(row * L::kQueryPitch + unit * 16), from, valid);
  }
}

// Beside FP8 pages queries are f16: a row is multiplied by the power of two that brings its largest
// number just under f16's, so that bf16 rows of any magnitude keep their bits, and its products are
// multiplied by the inverse. Columns lie in split_f8's order: of every sixteen the even, then the
// odd.
template <class L>
__device__ void convert_queries(const MmaArgs& args, const CudaWork& work, std::byte* to,
                                float* row_factors) {
  constexpr int kPairs = L::kKeyWidth / 2, kReads = (kPairs + kWarp - 1) / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  for (int row = static_cast<int>(threadIdx.x) / kWarp; row < L::kTeam * kMmaRows;
       row += kMmaWarps) {
    const bool valid = row < rows_of(work);
    const auto* from =
        static_cast<const uint32_t*>(args.q) + (valid ? row_of(args, work, row) * kPairs : 0);
    float2 pairs[kReads];
    float largest = 0;
#pragma unroll
    for (int i = 0; i < kReads; ++i) {
      const int pair = i * kWarp + lane;
      const uint32_t bits = valid && pair < kPairs ? from[pair] : 0;
      pairs[i] = args.is_bf16 ? __bfloat1622float2(reinterpret_cast<const __nv_bfloat162&>(bits))
                              : __half22float2(reinterpret_cast<const __half2&>(bits));
      largest = fmaxf(largest, fmaxf(fabsf(pairs[i].x), fabsf(pairs[i].y)));
    }
    for (int step = kWarp / 2; step > 0; step /= 2)
      largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, step));
    const int exponent = max(__float_as_int(largest) >> 23, 27);  // biased; below 2^-100 is below
    const float up = __int_as_float((127 + 14 + 127 - exponent) << 23);
    if (lane == 0) row_factors[row] = __int_as_float((exponent - 14) << 23);
    auto* out = reinterpret_cast<__half*>(to + row * L::kQueryPitch);
#pragma unroll
    for (int i = 0; i < kReads; ++i) {
      const int pair = i * kWarp + lane;
      if (pair >= kPairs) continue;
      out[pair / 8 * 16 + pair % 8] = __float2half_rn(pairs[i].x * up);
      out[pair / 8 * 16 + pair % 8 + 8] = __float2half_rn(pairs[i].y * up);
    }
  }
}

// What the lane's two rows of a warp whose first is `first_row` see.
__device__ inline RowLimits limits_of(const MmaArgs& args, const CudaWork& work, int first_row) {
  RowLimits limits;
  const auto begin = [&](int token) {
    return args.window > 0 ? max(0, work.q_position + token - args.window + 1) : 0;
  };
  const auto end = [&](int token) {
    return args.causal ? work.q_position + token + 1 : work.kv_len;
  };
  for (int i = 0; i < 2; ++i) {
    const int row = first_row + static_cast<int>(threadIdx.x) % kWarp / 4 + 8 * i;
    const bool valid = row < rows_of(work);
    const int token = work.token_begin + row / work.n_heads;
    limits.begin[i] = valid ? max(begin(token), work.kv_begin) : 0;
    limits.end[i] = valid ? min(end(token), work.kv_end) : 0;
  }
  limits.inner_begin = max(begin(work.token_end - 1), work.kv_begin);
  limits.inner_end = min(end(work.token_begin), work.kv_end);
  return limits;
}

}  // namespace ashlar::cuda
