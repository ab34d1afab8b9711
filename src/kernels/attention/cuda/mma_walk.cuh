#pragma once

// One warp's walk over tokens: 16 query rows against a chunk of K, softmax, and the chunk of V.
//
// Scores and sums lie as m16n8k16 leaves them: a lane has rows lane / 4 and lane / 4 + 8 ("low" and
// "high"), of every block of eight columns the two from 2 * (lane % 4). In FP8 variants two blocks
// of values are the even and the odd columns of sixteen (f8.cuh), and queries lie in that order
// too.

#include "kernels/attention/cuda/mma_layout.cuh"
#include "kernels/attention/cuda/state.cuh"

namespace ashlar::cuda {

// What a row may look at.
struct RowLimits {
  int begin[2], end[2];        // of the lane's two rows
  int inner_begin, inner_end;  // what every row of the work sees
};

template <class L>
class Walk {
 public:
  static constexpr int kTokenBlocks = L::kChunk / 8;
  using Half = typename L::Half;

  float o[L::kBlocks][4];
  float m[2], d[2];  // d: of the lane's own columns, until sum_rows()

  __device__ explicit Walk(const MmaArgs& args)
      : args_(args), lane_(static_cast<int>(threadIdx.x) % kWarp) {}

  // The 16 rows at `address` in shared memory, where they stay (in registers they would leave too
  // few for the rest); factors of their products.
  __device__ void take_queries(uint32_t address, float low_factor, float high_factor) {
    const int row = lane_ % 16, column = lane_ / 16 * 16;
    query_ = address + static_cast<uint32_t>(row * L::kQueryPitch + column);
    factor_[0] = low_factor, factor_[1] = high_factor;
  }

  __device__ void clear() {
    for (int i = 0; i < 2; ++i) m[i] = -CUDART_INF_F, d[i] = 0, unit_[i] = kSmallestUnit;
#pragma unroll
    for (int block = 0; block < L::kBlocks; ++block)
      for (int i = 0; i < 4; ++i) o[block][i] = 0;
  }

  __device__ void add(uint32_t keys, uint32_t values, int position, const RowLimits& limits) {
    float s[kTokenBlocks][4] = {};
    dot(keys, s);
    scale(values, s);
    if (position < limits.inner_begin || position + L::kChunk > limits.inner_end)
      mask(position, limits, s);
    softmax(values, s);
    add_values(values, s);
  }

  // Ends a sum: d complete in every lane, o in its true unit.
  __device__ void sum_rows() {
#pragma unroll
    for (int i = 0; i < 2; ++i) d[i] = row_sum(d[i]);
    if constexpr (L::kTokenScales) {
#pragma unroll
      for (int block = 0; block < L::kBlocks; ++block)
        for (int i = 0; i < 4; ++i) o[block][i] *= unit_[i / 2];
    }
  }

 private:
  static constexpr float kSmallestUnit = 0x1p-126f;

  __device__ static float row_max(float x) {
    x = fmaxf(x, __shfl_xor_sync(~0u, x, 1));
    return fmaxf(x, __shfl_xor_sync(~0u, x, 2));
  }
  __device__ static float row_sum(float x) {
    x += __shfl_xor_sync(~0u, x, 1);
    return x + __shfl_xor_sync(~0u, x, 2);
  }

  __device__ void dot(uint32_t keys, float (&s)[kTokenBlocks][4]) {
    const int tile = lane_ / 8;
    const uint32_t at =
        keys +
        static_cast<uint32_t>(L::kF8 ? lane_ * L::kKeyPitch
                                     : (tile / 2 * 8 + lane_ % 8) * L::kKeyPitch + tile % 2 * 16);
#pragma unroll
    for (int step = 0; step < L::kSteps; ++step) {
      uint32_t q[4], r[4];
      load_matrix(q, query_ + step * 32);
      if constexpr (L::kF8) {
        load_matrix(r, at + step * 16);
#pragma unroll
        for (int block = 0; block < 4; ++block) {
          uint32_t even, odd;
          split_f8<L::kType>(r[block], even, odd);
          mma<Half>(s[block], q, even, odd);
        }
      } else {
#pragma unroll
        for (int half = 0; half < L::kChunk / 16; ++half) {
          load_matrix(r, at + half * 16 * L::kKeyPitch + step * 32);
          mma<Half>(s[2 * half], q, r[0], r[1]);
          mma<Half>(s[2 * half + 1], q, r[2], r[3]);
        }
      }
    }
  }

  // {K's, V's} scale of the lane's column `i` of a block of tokens.
  __device__ float2 scales(uint32_t values, int block, int i) const {
    const int token = block * 8 + lane_ % 4 * 2 + i;
    return load_shared_pair(values +
                            static_cast<uint32_t>(token * L::kValuePitch + L::kValueBytes));
  }

  // Products to logits in units of log 2.
  __device__ void scale(uint32_t values, float (&s)[kTokenBlocks][4]) const {
#pragma unroll
    for (int block = 0; block < kTokenBlocks; ++block) {
      for (int i = 0; i < 4; ++i) s[block][i] *= factor_[i / 2];
      if constexpr (L::kTokenScales) {
        const float first = scales(values, block, 0).x, second = scales(values, block, 1).x;
        for (int i = 0; i < 4; ++i) s[block][i] *= i % 2 ? second : first;
      }
    }
    if (args_.softcap_log2 == 0) return;
#pragma unroll
    for (int block = 0; block < kTokenBlocks; ++block)
      for (int i = 0; i < 4; ++i) s[block][i] = args_.softcap_log2 * tanhf(s[block][i]);
  }

  __device__ void mask(int position, const RowLimits& limits, float (&s)[kTokenBlocks][4]) const {
    position += lane_ % 4 * 2;
#pragma unroll
    for (int block = 0; block < kTokenBlocks; ++block) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int token = position + block * 8 + i % 2;
        if (token < limits.begin[i / 2] || token >= limits.end[i / 2]) s[block][i] = -CUDART_INF_F;
      }
    }
  }

  // Scores become what values are multiplied by; m, d and o move to the new maximum.
  __device__ void softmax(uint32_t values, float (&s)[kTokenBlocks][4]) {
    float keep[2];
    [[maybe_unused]] float inverse_unit[2];
    bool moved = false;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float highest = s[0][2 * i];
#pragma unroll
      for (int block = 0; block < kTokenBlocks; ++block)
        highest = fmaxf(highest, fmaxf(s[block][2 * i], s[block][2 * i + 1]));
      highest = fmaxf(m[i], row_max(highest));
      const float reference = reference_of(highest);
      keep[i] = exp2_approx(m[i] - reference);
      moved |= highest != m[i];
      m[i] = highest;
      d[i] *= keep[i];
#pragma unroll
      for (int block = 0; block < kTokenBlocks; ++block) {
        for (int column = 0; column < 2; ++column) {
          float& p = s[block][2 * i + column];
          p = exp2_approx(p - reference);
          d[i] += p;
        }
      }
    }
    if constexpr (L::kTokenScales) moved |= move_units(values, s, keep, inverse_unit);
    if (__any_sync(~0u, moved)) {  // times one otherwise
#pragma unroll
      for (int block = 0; block < L::kBlocks; ++block)
        for (int i = 0; i < 4; ++i) o[block][i] *= keep[i / 2];
    }
    if constexpr (L::kTokenScales) weigh(values, inverse_unit, s);
  }

  // V's token scales go into the f16 factors of values, which must neither overflow nor vanish: so
  // o counts in units of a power of two near the largest scale met by the row.
  __device__ bool move_units(uint32_t values, const float (&s)[kTokenBlocks][4], float (&keep)[2],
                             float (&inverse_unit)[2]) {
    float largest[2] = {0, 0};
#pragma unroll
    for (int block = 0; block < kTokenBlocks; ++block) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float v_scale = scales(values, block, i % 2).y;
        if (s[block][i] > 0) largest[i / 2] = fmaxf(largest[i / 2], v_scale);
      }
    }
    bool moved = false;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int power = __float_as_int(row_max(largest[i])) & 0x7f800000;
      const float unit = fmaxf(unit_[i], __int_as_float(power));
      inverse_unit[i] = __int_as_float(0x7f000000 - __float_as_int(unit));
      keep[i] *= unit_[i] * inverse_unit[i];
      moved |= unit != unit_[i];
      unit_[i] = unit;
    }
    return moved;
  }
  __device__ void weigh(uint32_t values, const float (&inverse_unit)[2],
                        float (&s)[kTokenBlocks][4]) const {
#pragma unroll
    for (int block = 0; block < kTokenBlocks; ++block) {
      const float first = scales(values, block, 0).y, second = scales(values, block, 1).y;
      for (int i = 0; i < 4; ++i) s[block][i] *= (i % 2 ? second : first) * inverse_unit[i / 2];
    }
  }

  __device__ void add_values(uint32_t values, const float (&p)[kTokenBlocks][4]) {
    uint32_t a[L::kChunk / 16][4];
#pragma unroll
    for (int half = 0; half < L::kChunk / 16; ++half) {
      for (int i = 0; i < 4; ++i) {
        const float* pair = &p[2 * half + i / 2][i % 2 * 2];
        a[half][i] = pack<Half>(pair[0], pair[1]);
      }
    }
    const int tile = lane_ / 8;
    if constexpr (L::kF8) {
      const uint32_t at = values + static_cast<uint32_t>(lane_ * L::kValuePitch);
#pragma unroll
      for (int group = 0; group < L::kBlocks / 2; ++group) {
        uint32_t r[4], even[4], odd[4];
        load_matrix_transposed(r, at + group * 16);
#pragma unroll
        for (int i = 0; i < 4; ++i) split_f8<L::kType>(r[i], even[i], odd[i]);
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          mma<Half>(o[2 * group], a[half], even[2 * half], even[2 * half + 1]);
          mma<Half>(o[2 * group + 1], a[half], odd[2 * half], odd[2 * half + 1]);
        }
      }
    } else {
      const uint32_t at = values + static_cast<uint32_t>(
                                       (tile % 2 * 8 + lane_ % 8) * L::kValuePitch + tile / 2 * 16);
#pragma unroll
      for (int half = 0; half < L::kChunk / 16; ++half) {
#pragma unroll
        for (int group = 0; group < L::kBlocks / 2; ++group) {
          uint32_t r[4];
          load_matrix_transposed(r, at + half * 16 * L::kValuePitch + group * 32);
          mma<Half>(o[2 * group], a[half], r[0], r[1]);
          mma<Half>(o[2 * group + 1], a[half], r[2], r[3]);
        }
      }
    }
  }

  const MmaArgs& args_;
  int lane_;
  uint32_t query_ = 0;
  float factor_[2] = {1, 1};
  float unit_[2] = {kSmallestUnit, kSmallestUnit};  // of o, where tokens have scales
};

}  // namespace ashlar::cuda
