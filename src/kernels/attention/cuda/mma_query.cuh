#pragma once

// A work's queries on their way to shared memory.

#include <math_constants.h>

#include "kernels/attention/cuda/element.cuh"
#include "kernels/attention/cuda/mma_layout.cuh"
#include "kernels/attention/cuda/mma_walk.cuh"

namespace ashlar::cuda {

// Row r of a work is token r / n_heads, head r % n_heads.
__device__ inline int token_of(const CudaWork& work, int row) {
  return row * work.heads_inverse >> 16;
}
__device__ inline int head_of(const CudaWork& work, int row) {
  return work.head_begin + row - token_of(work, row) * work.n_heads;
}
// Where it lies in q and out, in rows.
__device__ inline int64_t row_of(const MmaArgs& args, const CudaWork& work, int row) {
  const int token = work.q_begin + work.token_begin + token_of(work, row);
  return int64_t{token} * args.heads + head_of(work, row);
}
__device__ inline int rows_of(const CudaWork& work) {
  return (work.token_end - work.token_begin) * work.n_heads;
}

// A work's queries, on their way through registers: asked for while the work before is walked.
// Rows beyond the work's are zeros.
template <class L, bool kConvert = L::kF8>
class Queries;

// Queries of the pages' type stay as they are.
template <class L>
class Queries<L, false> {
 public:
  __device__ void request(const MmaArgs& args, const CudaWork& work) {
    const int n_rows = rows_of(work);
#pragma unroll
    for (int i = 0; i < kReads; ++i) {
      const int unit = i * L::kThreads + static_cast<int>(threadIdx.x), row = unit / kUnits;
      const bool valid = row < n_rows;
      const auto* from =
          static_cast<const std::byte*>(args.q) +
          (valid ? row_of(args, work, row) * L::kKeyWidth * 2 + unit % kUnits * 16 : 0);
      units_[i] = valid ? load_early_16(from) : make_uint4(0, 0, 0, 0);
    }
  }
  __device__ void store(std::byte* to, float*) const {
#pragma unroll
    for (int i = 0; i < kReads; ++i) {
      const int unit = i * L::kThreads + static_cast<int>(threadIdx.x), row = unit / kUnits;
      if (row >= L::kTeam * kMmaRows) continue;
      *reinterpret_cast<uint4*>(to + row * L::kQueryPitch + unit % kUnits * 16) = units_[i];
    }
  }

 private:
  static constexpr int kUnits = L::kKeyWidth / 8;
  static constexpr int kReads = (L::kTeam * kMmaRows * kUnits + L::kThreads - 1) / L::kThreads;
  uint4 units_[kReads];
};

// Beside FP8 pages queries are f16: a row is multiplied by the power of two that brings its largest
// number just under f16's, so that bf16 rows of any magnitude keep their bits, and its products are
// multiplied by the inverse. Columns lie in split_f8's order: of every sixteen the even, then the
// odd. A warp takes every kWarps-th row.
template <class L>
class Queries<L, true> {
 public:
  __device__ void request(const MmaArgs& args, const CudaWork& work) {
    is_bf16_ = args.is_bf16;
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      const int row = i * L::kWarps + static_cast<int>(threadIdx.x) / kWarp;
      const bool valid = row < rows_of(work);
      const auto* from =
          static_cast<const uint32_t*>(args.q) + (valid ? row_of(args, work, row) * kPairs : 0);
#pragma unroll
      for (int read = 0; read < kReads; ++read) {
        const int pair = read * kWarp + static_cast<int>(threadIdx.x) % kWarp;
        bits_[i][read] = valid && pair < kPairs ? load_early(from + pair) : 0;
      }
    }
  }
  __device__ void store(std::byte* to, float* row_factors) const {
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      const int row = i * L::kWarps + static_cast<int>(threadIdx.x) / kWarp;
      store_row(i, reinterpret_cast<__half*>(to + row * L::kQueryPitch), row_factors + row);
    }
  }

 private:
  static constexpr int kRows = L::kTeam * kMmaRows / L::kWarps;
  static constexpr int kPairs = L::kKeyWidth / 2, kReads = (kPairs + kWarp - 1) / kWarp;

  __device__ float2 pair_of(uint32_t bits) const {
    return is_bf16_ ? __bfloat1622float2(reinterpret_cast<const __nv_bfloat162&>(bits))
                    : __half22float2(reinterpret_cast<const __half2&>(bits));
  }
  __device__ void store_row(int i, __half* to, float* factor) const {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    float largest = 0;
#pragma unroll
    for (int read = 0; read < kReads; ++read) {
      const float2 pair = pair_of(bits_[i][read]);
      largest = fmaxf(largest, fmaxf(fabsf(pair.x), fabsf(pair.y)));
    }
    for (int step = kWarp / 2; step > 0; step /= 2)
      largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, step));
    const int exponent = max(__float_as_int(largest) >> 23, 27);  // biased; below 2^-100 is below
    const float up = __int_as_float((127 + 14 + 127 - exponent) << 23);
    if (lane == 0) *factor = __int_as_float((exponent - 14) << 23);
#pragma unroll
    for (int read = 0; read < kReads; ++read) {
      const int pair = read * kWarp + lane;
      if (pair >= kPairs) continue;
      const float2 numbers = pair_of(bits_[i][read]);
      to[pair / 8 * 16 + pair % 8] = __float2half_rn(numbers.x * up);
      to[pair / 8 * 16 + pair % 8 + 8] = __float2half_rn(numbers.y * up);
    }
  }

  bool is_bf16_ = true;
  uint32_t bits_[kRows][kReads];
};

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
    const int token = work.token_begin + token_of(work, row);
    limits.begin[i] = valid ? max(begin(token), work.kv_begin) : 0;
    limits.end[i] = valid ? min(end(token), work.kv_end) : 0;
  }
  limits.inner_begin = max(begin(work.token_end - 1), work.kv_begin);
  limits.inner_end = min(end(work.token_begin), work.kv_end);
  return limits;
}

}  // namespace ashlar::cuda
