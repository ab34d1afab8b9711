#pragma once

// What one warp of the decode body multiplies.
//
// Scores lie as m16n8k16 leaves them: a lane has tokens lane / 4 and + 8 of its warp's 16, of every
// tile of eight queries the two from 2 * (lane % 4). Sums of values too, with values for tokens.
// Beside FP8 pages rows of values 0..15 are columns 0, 2, .. 14, 1, 3, .. 15 (f8.cuh).

#include "kernels/attention/cuda/decode_layout.cuh"
#include "kernels/attention/cuda/mma_query.cuh"
#include "kernels/attention/cuda/state.cuh"

namespace ashlar::cuda {

constexpr int kMeeting = 1;  // the hardware barrier of the warps that multiply
template <int kWarps>
__device__ inline void meet_warps() {
  sync_threads(kMeeting, kWarps * kWarp);
}
// The same; whether any thread says so.
template <int kWarps>
__device__ inline bool any_of_warps(bool here) {
  uint32_t any;
  asm volatile(
      "{\n.reg .pred p, q;\nsetp.ne.u32 p, %1, 0;\n"
      "barrier.cta.red.or.pred q, %2, %3, p;\nselp.u32 %0, 1, 0, q;\n}"
      : "=r"(any)
      : "r"(static_cast<uint32_t>(here)), "n"(kMeeting), "n"(kWarps * kWarp)
      : "memory");
  return any != 0;
}

// Scores may grow by this many powers of two before their reference moves: probabilities up to 256,
// which f16 holds as exactly as others.
constexpr float kSlack = 8;

// kTiles: of eight queries, one or two.
template <class L, int kTiles>
class DecodeWalk {
 public:
  using Half = typename L::Half;

  float o[L::kValueTiles][kTiles][4];
  float reference[kTiles][2];  // an integer: whole powers of two are exact; -inf: saw nothing
  float d[kTiles][2];          // of the lane's tokens

  __device__ DecodeWalk(const MmaArgs& args, DecodeShared<L>& shared)
      : args_(args),
        shared_(shared),
        warp_(static_cast<int>(threadIdx.x) / kWarp),
        lane_(static_cast<int>(threadIdx.x) % kWarp) {}

  __device__ void clear() {
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
      for (int c = 0; c < 2; ++c) reference[n][c] = -CUDART_INF_F, d[n][c] = 0, unit_[n][c] = 0;
#pragma unroll
      for (int v = 0; v < L::kValueTiles; ++v)
        for (int i = 0; i < 4; ++i) o[v][n][i] = more_[v][n][i] = 0;
    }
  }

  __device__ void take_queries(const std::byte* queries) {
    if constexpr (L::kF8)
      convert_queries(queries);
    else
      load_queries(queries);
  }

  // S^T of the warp's 16 tokens.
  __device__ void score(uint32_t keys, float (&s)[kTiles][4]) const {
    const int upper = lane_ / 16, token = warp_ * 16 + lane_ % 16;
    float even[kTiles][4] = {}, odd[kTiles][4] = {};
#pragma unroll
    for (int step = 0; step < L::kSteps; step += 2) {
      uint32_t first[4], second[4];
      if constexpr (L::kF8) {
        uint32_t r[4];
        load_matrix(r, chunk_at(keys, token, upper, step));
        widen_f8<L::kType>(r[0], first[0], first[2]);
        widen_f8<L::kType>(r[1], first[1], first[3]);
        widen_f8<L::kType>(r[2], second[0], second[2]);
        widen_f8<L::kType>(r[3], second[1], second[3]);
      } else {
        load_matrix(first, chunk_at(keys, token, upper, 2 * step));
        load_matrix(second, chunk_at(keys, token, upper, 2 * step + 2));
      }
#pragma unroll
      for (int n = 0; n < kTiles; ++n) {
        mma<Half>(even[n], first, q_[step][n][0], q_[step][n][1]);
        mma<Half>(odd[n], second, q_[step + 1][n][0], q_[step + 1][n][1]);
      }
    }
#pragma unroll
    for (int n = 0; n < kTiles; ++n)
      for (int i = 0; i < 4; ++i) s[n][i] = even[n][i] + odd[n][i];
  }

  // O^T += V^T P^T over a tile whose probabilities all warps have left in `buffer`.
  __device__ void add_values(uint32_t values, int buffer) {
    const uint32_t probabilities = shared_address(shared_.probabilities[buffer]);
#pragma unroll
    for (int step = 0; step < L::kTile / 16; step += 2) {
      uint32_t p[2][kTiles][2];
      load_probabilities(probabilities, step, p);
#pragma unroll
      for (int v = 0; v < L::kValueTiles; ++v) {
        uint32_t first[4], second[4];
        load_values(values, step, v, first, second);
#pragma unroll
        for (int n = 0; n < kTiles; ++n) {
          mma<Half>(o[v][n], first, p[0][n][0], p[0][n][1]);
          mma<Half>(L::kValueTiles == 1 ? more_[v][n] : o[v][n], second, p[1][n][0], p[1][n][1]);
        }
      }
    }
  }

  // Zeros for the warp's values of tokens outside [begin, end) of a tile: they may be anything, and
  // anything times nothing need not be nothing.
  __device__ void clear_values(uint32_t values, int begin, int end) const {
    constexpr int kChunks = L::kValueTiles * L::kElement;
    for (int i = lane_; i < L::kTile * kChunks; i += kWarp) {
      const int token = i / kChunks;
      if (token >= begin && token < end) continue;
      const uint32_t to = values + Values::offset(token, warp_ * kChunks + i % kChunks);
      write_shared_16(to, {0, 0, 0, 0});
    }
    fence_proxy_async();
    __syncwarp();
  }

  // Products to logits in units of log 2; -inf where a query does not see a token.
  __device__ void scale(const CudaWork& work, int position, const float* key_scales, bool edge,
                        float (&s)[kTiles][4]) const {
    const int token = warp_ * 16 + lane_ / 4;
    [[maybe_unused]] float k_scale[2];
    if constexpr (L::kTokenScales)
      k_scale[0] = key_scales[token], k_scale[1] = key_scales[token + 8];
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
      for (int i = 0; i < 4; ++i) {
        s[n][i] *= L::kF8 ? factor_[n][i % 2] : args_.logit_scale;
        if constexpr (L::kTokenScales) s[n][i] *= k_scale[i / 2];
      }
    }
    if (args_.softcap_log2 != 0) {
#pragma unroll
      for (int n = 0; n < kTiles; ++n)
        for (int i = 0; i < 4; ++i) s[n][i] = args_.softcap_log2 * tanhf(s[n][i]);
    }
    if (edge) mask(work, position + token, s);
  }

  // Scores of tile `tile` become probabilities in `buffer`, of which all warps' are there on
  // return, relative to one reference. `last`: of a split; then sums are there too.
  __device__ void softmax(const float (&s)[kTiles][4], const float* value_scales, bool first,
                          bool last, int buffer) {
    float v_scale[2] = {1, 1};
    if constexpr (L::kTokenScales) take_scales(value_scales, v_scale);
    bool moved = first;
    float before[kTiles][2];
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
      for (int c = 0; c < 2; ++c) {
        before[n][c] = d[n][c];
        const float top = fmaxf(s[n][c], s[n][c + 2]);
        moved |= top > reference[n][c] + kSlack;
        if constexpr (L::kTokenScales) moved |= scale_of(s, v_scale, n, c) > kWide * unit_[n][c];
      }
    }
    if (!first) {
      weigh(s, v_scale, buffer);
      if (last) leave_sums();
      moved = any_of_warps<L::kWarps>(moved);
    }
    if (moved) {
#pragma unroll
      for (int n = 0; n < kTiles; ++n)
        for (int c = 0; c < 2; ++c) d[n][c] = before[n][c];
      settle(s, v_scale);
      weigh(s, v_scale, buffer);
      if (last) leave_sums();
      meet_warps<L::kWarps>();
    }
  }

  // Ends a split: d complete, o complete and in its true unit.
  __device__ void take_sums() {
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
      for (int v = 0; v < L::kValueTiles; ++v)
        for (int i = 0; i < 4; ++i) o[v][n][i] += more_[v][n][i];
      for (int c = 0; c < 2; ++c) {
        d[n][c] = sum_of(shared_.sums[n * 8 + lane_ % 4 * 2 + c]);
        if constexpr (L::kTokenScales) scale_values(o, n, c, unit_[n][c]);
      }
    }
  }

 private:
  using Keys = typename L::Keys;
  using Values = typename L::Values;
  static constexpr float kWide = 16;

  __device__ void load_queries(const std::byte* queries) {
    const int x = lane_ % 8, i = lane_ / 8;
    const int row = kTiles == 2 ? i / 2 * 8 + x : x, column = kTiles == 2 ? i % 2 : i;
    const uint32_t at =
        shared_address(queries) + static_cast<uint32_t>(row * L::kQueryPitch + column * 16);
#pragma unroll
    for (int step = 0; step < L::kSteps; step += 3 - kTiles) {
      uint32_t r[4];
      load_matrix(r, at + step * 32);
      if constexpr (kTiles == 2) {
        q_[step][0][0] = r[0], q_[step][0][1] = r[1];
        q_[step][1][0] = r[2], q_[step][1][1] = r[3];
      } else {
        q_[step][0][0] = r[0], q_[step][0][1] = r[1];
        q_[step + 1][0][0] = r[2], q_[step + 1][0][1] = r[3];
      }
    }
  }

  __device__ float2 pair_of(uint32_t bits) const {
    return args_.is_bf16 ? __bfloat1622float2(reinterpret_cast<const __nv_bfloat162&>(bits))
                         : __half22float2(reinterpret_cast<const __half2&>(bits));
  }
  // Beside FP8 pages queries are f16: a row is multiplied by the power of two that brings its
  // largest number just under f16's, so that bf16 rows of any magnitude keep their bits, and its
  // products are multiplied by the inverse. A lane takes the four of every sixteen that are its
  // four codes of a key.
  __device__ void convert_queries(const std::byte* queries) {
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
      const std::byte* row = queries + (n * 8 + lane_ / 4) * L::kQueryPitch + lane_ % 4 * 8;
      float largest = 0;
#pragma unroll
      for (int step = 0; step < L::kSteps; ++step) {
        const auto bits = *reinterpret_cast<const uint2*>(row + step * 32);
        const float2 low = pair_of(bits.x), high = pair_of(bits.y);
        largest = fmaxf(fmaxf(largest, fmaxf(fabsf(low.x), fabsf(low.y))),
                        fmaxf(fabsf(high.x), fabsf(high.y)));
        q_[step][n][0] = bits.x, q_[step][n][1] = bits.y;
      }
      largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, 1));
      largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, 2));
      const int exponent = max(__float_as_int(largest) >> 23, 27);  // biased
      const float up = __int_as_float((127 + 14 + 127 - exponent) << 23);
      const float down = __int_as_float((exponent - 14) << 23);
#pragma unroll
      for (int step = 0; step < L::kSteps; ++step) {
        for (uint32_t& bits : q_[step][n]) {
          const float2 pair = pair_of(bits);
          bits = pack<__half>(pair.x * up, pair.y * up);
        }
      }
      for (int c = 0; c < 2; ++c)
        factor_[n][c] = args_.logit_scale * __shfl_sync(~0u, down, (lane_ % 4 * 2 + c) * 4);
    }
  }

  // Chunk `chunk`, even, or (upper) the next of a key: lines begin at multiples of their size, so
  // that the places of a line's chunks differ in bits alone.
  __device__ static uint32_t chunk_at(uint32_t keys, int token, int upper, int chunk) {
    constexpr int kChunks = Keys::kLine / 16;
    const uint32_t line = keys + Keys::offset(token, chunk / kChunks * kChunks + upper);
    return line ^ static_cast<uint32_t>(chunk % kChunks << 4);
  }

  __device__ static uint32_t probability_offset(int query, int chunk) {
    return static_cast<uint32_t>(query * L::kProbabilityPitch + ((chunk ^ query % 8) << 4));
  }
  __device__ static void scale_values(float (&o)[L::kValueTiles][kTiles][4], int n, int c,
                                      float factor) {
#pragma unroll
    for (int v = 0; v < L::kValueTiles; ++v) o[v][n][c] *= factor, o[v][n][c + 2] *= factor;
  }

  // V^T of 16 values and the tokens of steps `step` and the next.
  __device__ void load_values(uint32_t values, int step, int v, uint32_t (&first)[4],
                              uint32_t (&second)[4]) const {
    const int tile = warp_ * L::kValueTiles + v;
    if constexpr (L::kF8) {
      uint32_t r[4];
      load_matrix_transposed(r, values + Values::offset(step * 16 + lane_, tile));
      split_f8<L::kType>(r[0], first[0], first[1]);
      split_f8<L::kType>(r[1], first[2], first[3]);
      split_f8<L::kType>(r[2], second[0], second[1]);
      split_f8<L::kType>(r[3], second[2], second[3]);
    } else {
      const int token = step * 16 + lane_ / 16 * 8 + lane_ % 8, chunk = 2 * tile + lane_ / 8 % 2;
      load_matrix_transposed(first, values + Values::offset(token, chunk));
      load_matrix_transposed(second, values + Values::offset(token + 16, chunk));
    }
  }

  // Of steps `step` and the next.
  __device__ void load_probabilities(uint32_t from, int step, uint32_t (&p)[2][kTiles][2]) const {
    const int x = lane_ % 8, i = lane_ / 8;
    uint32_t r[4];
    if constexpr (kTiles == 1) {
      load_matrix(r, from + probability_offset(x, 2 * step + i));
      p[0][0][0] = r[0], p[0][0][1] = r[1], p[1][0][0] = r[2], p[1][0][1] = r[3];
    } else {
#pragma unroll
      for (int k = 0; k < 2; ++k) {
        load_matrix(r, from + probability_offset(i / 2 * 8 + x, 2 * (step + k) + i % 2));
        p[k][0][0] = r[0], p[k][0][1] = r[1], p[k][1][0] = r[2], p[k][1][1] = r[3];
      }
    }
  }

  __device__ void mask(const CudaWork& work, int position, float (&s)[kTiles][4]) const {
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
      for (int c = 0; c < 2; ++c) {
        const int row = n * 8 + lane_ % 4 * 2 + c;
        const int at = work.q_position + work.token_begin + token_of(work, row);
        const int begin =
            args_.window > 0 ? max(work.kv_begin, at - args_.window + 1) : work.kv_begin;
        const int end = args_.causal ? min(work.kv_end, at + 1) : work.kv_end;
        for (int half = 0; half < 2; ++half) {
          const int token = position + 8 * half;
          if (token < begin || token >= end) s[n][c + 2 * half] = -CUDART_INF_F;
        }
      }
    }
  }

  // V's scales of the lane's two tokens; beyond the work they may be anything.
  __device__ void take_scales(const float* value_scales, float (&v_scale)[2]) const {
    const int token = warp_ * 16 + lane_ / 4;
    for (int half = 0; half < 2; ++half) v_scale[half] = value_scales[token + 8 * half];
  }
  // The largest that the query's values are multiplied by.
  __device__ static float scale_of(const float (&s)[kTiles][4], const float (&v_scale)[2], int n,
                                   int c) {
    const float first = s[n][c] > -CUDART_INF_F ? v_scale[0] : 0.0f;
    const float second = s[n][c + 2] > -CUDART_INF_F ? v_scale[1] : 0.0f;
    return fmaxf(first, second);
  }

  // Scores to probabilities in shared memory, their sums to d.
  __device__ void weigh(const float (&s)[kTiles][4], const float (&v_scale)[2], int buffer) {
    uint32_t packed[kTiles][2];
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
      float p[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) p[i] = exp2_approx(s[n][i] - reference_of(reference[n][i % 2]));
      for (int c = 0; c < 2; ++c) d[n][c] += p[c] + p[c + 2];
      if constexpr (L::kTokenScales) {
        for (int i = 0; i < 4; ++i) {
          const float unit = unit_[n][i % 2];
          const float inverse = __int_as_float(0x7f000000 - __float_as_int(unit));
          p[i] = p[i] > 0 && unit > 0 ? p[i] * (v_scale[i / 2] * inverse) : 0.0f;
        }
      }
      packed[n][0] = pack<Half>(p[0], p[1]), packed[n][1] = pack<Half>(p[2], p[3]);
    }
    const int x = lane_ % 8, i = lane_ / 8;
    const uint32_t to = shared_address(shared_.probabilities[buffer]) +
                        probability_offset(i / 2 % kTiles * 8 + x, warp_ * 2 + i % 2);
    if constexpr (kTiles == 2)
      store_matrix_transposed(to, {packed[0][0], packed[0][1], packed[1][0], packed[1][1]});
    else
      store_matrix_transposed(to, packed[0][0], packed[0][1]);
  }

  // Moves references, of queries whose scores have outgrown them, to what all warps' allow.
  __device__ void settle(const float (&s)[kTiles][4], const float (&v_scale)[2]) {
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
      for (int c = 0; c < 2; ++c) {
        const int query = n * 8 + lane_ % 4 * 2 + c;
        const float top = token_max(fmaxf(s[n][c], s[n][c + 2]));
        if (lane_ < 4) shared_.highest[query][warp_] = top;
        if constexpr (L::kTokenScales) {
          const float scale = token_max(scale_of(s, v_scale, n, c));
          if (lane_ < 4) shared_.largest_scale[query][warp_] = scale;
        }
      }
    }
    meet_warps<L::kWarps>();
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
      for (int c = 0; c < 2; ++c) {
        const int query = n * 8 + lane_ % 4 * 2 + c;
        const float top = max_of(shared_.highest[query]);
        float keep = 1;
        if (top > reference[n][c] + kSlack) {
          const float moved = ceilf(top);
          keep = exp2_approx(reference[n][c] - moved);
          reference[n][c] = moved;
        }
        d[n][c] *= keep;
        if constexpr (L::kTokenScales)
          keep *= move_unit(max_of(shared_.largest_scale[query]), n, c);
        scale_values(o, n, c, keep), scale_values(more_, n, c, keep);
      }
    }
  }
  // V's token scales go into the f16 factors of values, which must neither overflow nor vanish: so
  // o counts in units of a power of two near the largest scale met by the row. 0: met none.
  __device__ float move_unit(float scale, int n, int c) {
    if (scale <= kWide * unit_[n][c]) return 1;
    const float unit = __int_as_float(__float_as_int(scale) & 0x7f800000);
    const float keep = unit_[n][c] > 0 ? __fdividef(unit_[n][c], unit) : 0.0f;
    unit_[n][c] = unit;
    return keep;
  }

  __device__ static float token_max(float x) {
    for (int step = 4; step < kWarp; step *= 2) x = fmaxf(x, __shfl_xor_sync(~0u, x, step));
    return x;
  }
  __device__ static float max_of(const float (&x)[L::kWarps]) {
    float highest = -CUDART_INF_F;
#pragma unroll
    for (int i = 0; i < L::kWarps / 4; ++i) {
      const float4 part = reinterpret_cast<const float4*>(x)[i];
      highest = fmaxf(fmaxf(highest, fmaxf(part.x, part.y)), fmaxf(part.z, part.w));
    }
    return highest;
  }
  __device__ static float sum_of(const float (&x)[L::kWarps]) {
    float sum = 0;
#pragma unroll
    for (int i = 0; i < L::kWarps / 4; ++i) {
      const float4 part = reinterpret_cast<const float4*>(x)[i];
      sum += (part.x + part.y) + (part.z + part.w);
    }
    return sum;
  }

  __device__ void leave_sums() const {
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
      for (int c = 0; c < 2; ++c) {
        float sum = d[n][c];
        for (int step = 4; step < kWarp; step *= 2) sum += __shfl_xor_sync(~0u, sum, step);
        if (lane_ < 4) shared_.sums[n * 8 + lane_ % 4 * 2 + c][warp_] = sum;
      }
    }
  }

  const MmaArgs& args_;
  DecodeShared<L>& shared_;
  const int warp_, lane_;
  uint32_t q_[L::kSteps][kTiles][2];
  float more_[L::kValueTiles][kTiles]
             [4];  // of o: every other 16 tokens, so that products wait less for each other
  float factor_[kTiles][2];
  float unit_[kTiles][2];  // of o, where tokens have scales
};

}  // namespace ashlar::cuda
