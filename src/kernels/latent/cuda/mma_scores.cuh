#pragma once

// The team of the mma body that scores: products with the keys, and the softmax.
//
// A warp takes 16 tokens of a tile and a part of the width, its queries in registers; the parts
// meet in shared memory. Then two rows a warp: probabilities, and the factor that brings what the
// rows hold to the new maximum, handed to the other team.

#include "kernels/latent/cuda/mma_hand.cuh"

namespace ashlar::cuda {

template <class Query, DType kStored>
class ScoreTeam {
  using Type = MmaType<Query, kStored>;
  using Half = typename Type::Half;
  using Tile = typename Type::Tile;
  static constexpr int kTokens = Tile::kTokens;
  static constexpr int kLaneTokens = kTokens / 16;  // of a row, in the softmax
  static constexpr bool kFit = Type::kF8 && std::is_same_v<Query, __nv_bfloat16>;

 public:
  __device__ ScoreTeam(const LatentArgs& args, uint32_t ring, MmaShared<Type>& shared)
      : args_(args),
        shared_(shared),
        ring_(ring, shared.ring),
        warp_(static_cast<int>(threadIdx.x) / 32 - kTeamWarps),
        lane_(static_cast<int>(threadIdx.x) % 32),
        softmax_row_(2 * warp_ + lane_ / 16) {}

  __device__ void run(const CudaWork work) {
    load_queries(work);
    start_row(work);
    m_ = -CUDART_INF_F, d_ = 0;
    int split_end = (work.kv_begin / args_.kv_split + 1) * args_.kv_split;
    score<false>();
    synchronise();
    for (int position = work.kv_begin; position < work.kv_end;) {
      const int left = row_end_ - position;
      position += kTokens;
      const bool ends = position >= work.kv_end;
      const bool last = ends || position == split_end;
      const Row row = ends ? softmax(left) : score<true>(left);
      give(row, last);
      if (!ends) synchronise();  // the parts have come, and the tile before's have been read
      if (!last) continue;
      split_end += args_.kv_split;
      m_ = -CUDART_INF_F, d_ = 0;
    }
  }

 private:
  __device__ static void synchronise() { sync_threads(1, kTeamThreads); }

  // The warp's part of the width, and its 16 tokens.
  __device__ int part() const { return warp_ / Type::kGroups; }
  __device__ int first_token() const { return warp_ % Type::kGroups * 16; }

  // --- queries ---

  __device__ void load_queries(const CudaWork& work) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int row = lane_ / 4 + 8 * r;
      const bool used = row < work_rows(work);
      const WorkRow at = used ? work_row(work, row) : WorkRow{work.token_begin, work.head_begin};
      const Query* q = static_cast<const Query*>(args_.q) +
                       (int64_t{work.q_begin + at.token} * args_.heads + at.head) * kLatentQ;
#pragma unroll
      for (int k = 0; k < Type::kSteps; ++k) {
        const int step = k % Type::kPairSteps + part() * Type::kPairSteps;
        load_query(q + 64 * (k / Type::kPairSteps) + 16 * step, used, q_[k][r], q_[k][r + 2]);
      }
    }
    if constexpr (kFit) fit_f16();
    if constexpr (Type::kF8 && !kHopper) {
#pragma unroll
      for (int k = 0; k < Type::kSteps; ++k) {
        order(q_[k][0], q_[k][2]);
        order(q_[k][1], q_[k][3]);
      }
    }
  }
  // 16 columns: in halves, 2j, 2j + 1 | 2j + 8, 2j + 9 of lane j; in FP8, four in a row.
  __device__ void load_query(const Query* q, bool used, uint32_t& low, uint32_t& high) {
    const int j = lane_ % 4;
    low = high = 0;
    if (!used) return;
    if constexpr (!Type::kF8) {
      low = reinterpret_cast<const uint32_t*>(q)[j];
      high = reinterpret_cast<const uint32_t*>(q)[j + 4];
    } else {
      const uint2 words = reinterpret_cast<const uint2*>(q)[j];
      low = words.x, high = words.y;
    }
  }
  // The order that split_f8 gives.
  __device__ static void order(uint32_t& low, uint32_t& high) {
    const uint32_t even = __byte_perm(low, high, 0x5410);
    high = __byte_perm(low, high, 0x7632);
    low = even;
  }
  // Rows of bf16 become f16 by a power of two each.
  __device__ void fit_f16() {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      __nv_bfloat162 both{};
      each_pair(r, [&](uint32_t& pair) {
        both = __hmax2(both, __habs2(reinterpret_cast<__nv_bfloat162&>(pair)));
      });
      float largest = fmaxf(__low2float(both), __high2float(both));
      largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, 1));
      largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, 2));
      if (first_token() == 0 && lane_ % 4 == 0)
        shared_.largest[part()][lane_ / 4 + 8 * r] = largest;
    }
    synchronise();
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const float there = PowerOfTwo(largest_of(lane_ / 4 + 8 * r)).there;
      each_pair(r, [&](uint32_t& pair) {
        const float2 x = __bfloat1622float2(reinterpret_cast<__nv_bfloat162&>(pair));
        pair = pack<__half>(x.x * there, x.y * there);
      });
    }
  }
  template <class Do>
  __device__ void each_pair(int r, Do act) {
#pragma unroll
    for (int k = 0; k < Type::kSteps; ++k) act(q_[k][r]), act(q_[k][r + 2]);
  }
  __device__ float largest_of(int row) const {
    float largest = 0;
#pragma unroll
    for (int i = 0; i < Type::kParts; ++i) largest = fmaxf(largest, shared_.largest[i][row]);
    return largest;
  }

  __device__ void start_row(const CudaWork& work) {
    const bool used = softmax_row_ < work_rows(work);
    row_end_ = used ? work.q_position + work_row(work, softmax_row_).token + 1 : work.kv_end;
    row_scale_ = args_.score_scale;
    if constexpr (kFit) row_scale_ *= PowerOfTwo(largest_of(softmax_row_)).back;
  }

  // --- one tile ---

  // A few tokens of one row, on the way from scores to probabilities.
  struct Row {
    float s[kLaneTokens];
    float m, factor;
  };

  // Scores of one tile and, if kRow, beside it the softmax of the tile before.
  template <bool kRow>
  __device__ Row score(int left = 0) {
    const int token = first_token() + lane_ % 8 + lane_ / 16 * 8;
    const uint32_t keys = ring_.await() + Tile::offset(token, 2 * part() + (lane_ / 8 & 1));
    float s[4][4] = {};  // two tiles of 8 tokens, two sums each
    Row row = {};
    if constexpr (kRow) load_row(row);
#pragma unroll
    for (int i = 0; i < Type::kPairs; ++i) {
      uint32_t k[4];
      load_matrix(k,
                  (keys ^ i % Type::kLineParts * 64) + i / Type::kLineParts * Tile::kColumnBytes);
      score_pair(s, i, k);
      if constexpr (kRow) row_step(row, i, left);
    }
    ring_.leave();
    buffer_ ^= 1;
    const int column = first_token() + lane_ % 4 * 2;
    auto& scores = shared_.scores[buffer_][part()];
#pragma unroll
    for (int n = 0; n < 2; ++n) {
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        *reinterpret_cast<float2*>(&scores[lane_ / 4 + 8 * r][column + 8 * n]) = {
            s[n][2 * r] + s[n + 2][2 * r], s[n][2 * r + 1] + s[n + 2][2 * r + 1]};
      }
    }
    return row;
  }
  // Two chunks of 16 tokens: k[0], k[1] of the first eight, k[2], k[3] of the others.
  __device__ void score_pair(float (&s)[4][4], int i, const uint32_t (&k)[4]) {
    if constexpr (!Type::kF8) {
      mma<Half>(s[i % 2 * 2], q_[i], k[0], k[1]);
      mma<Half>(s[i % 2 * 2 + 1], q_[i], k[2], k[3]);
    } else {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        uint32_t low, high;
        if constexpr (kHopper)
          widen_f8<kStored>(k[j], low, high);
        else
          split_f8<kStored>(k[j], low, high);
        mma<Half>(s[j % 2 * 2 + j / 2], q_[2 * i + j % 2], low, high);
      }
    }
  }

  __device__ Row softmax(int left) {
    Row row;
    load_row(row);
#pragma unroll
    for (int i = 0; i < kRowSteps; ++i) row_step(row, i, left);
    return row;
  }
  __device__ int row_token() const { return lane_ % 16 * kLaneTokens; }
  __device__ void load_row(Row& row) {
#pragma unroll
    for (int i = 0; i < kLaneTokens; ++i) row.s[i] = 0;
#pragma unroll
    for (int part = 0; part < Type::kParts; ++part) {
#pragma unroll
      for (int i = 0; i < kLaneTokens; i += 2) {
        const float2 two = *reinterpret_cast<float2*>(
            &shared_.scores[buffer_][part][softmax_row_][row_token() + i]);
        row.s[i] += two.x, row.s[i + 1] += two.y;
      }
    }
  }
  // The softmax of a row that sees `left` tokens from the tile's first on, in steps.
  static constexpr int kRowSteps = 7;
  __device__ void row_step(Row& row, int step, int left) {
    if (step == 0) {
      row.m = m_;
#pragma unroll
      for (int i = 0; i < kLaneTokens; ++i) {
        row.s[i] = row_token() + i < left ? row.s[i] * row_scale_ : -CUDART_INF_F;
        row.m = fmaxf(row.m, row.s[i]);
      }
    } else if (step < 5) {
      row.m = fmaxf(row.m, __shfl_xor_sync(~0u, row.m, 16 >> step));
    } else if (step == 5) {
      row.factor = exp2_approx(m_ - reference_of(row.m));
#pragma unroll
      for (int i = 0; i < kLaneTokens; ++i) row.s[i] = exp2_approx(row.s[i] - reference_of(row.m));
    } else if (step == 6) {
      float sum = 0;
#pragma unroll
      for (int i = 0; i < kLaneTokens; ++i) sum += row.s[i];
      m_ = row.m;
      d_ = d_ * row.factor + sum;
    }
  }

  __device__ void give(const Row& row, bool last) {
    if (last)
      for (int step = 8; step > 0; step /= 2) d_ += __shfl_xor_sync(~0u, d_, step);
    await_phase(shared_.taken[hand_.stage], hand_.parity ^ 1);
    auto& hand = shared_.hands[hand_.stage];
#pragma unroll
    for (int i = 0; i < kLaneTokens; i += 2) {
      *reinterpret_cast<uint32_t*>(&hand.probs[softmax_row_][row_token() + i]) =
          pack<Half>(row.s[i], row.s[i + 1]);
    }
    if (lane_ % 16 == 0) {
      hand.factor[softmax_row_] = row.factor;
      hand.m[softmax_row_] = m_, hand.d[softmax_row_] = d_;
    }
    __syncwarp();
    if (lane_ == 0) shared_.given[hand_.stage].arrive();
    hand_.next();
  }

  const LatentArgs& args_;
  MmaShared<Type>& shared_;
  RingReader<Tile, Type::kStages> ring_;
  RingPlace<kMmaHands> hand_;
  const int warp_;
  const int lane_;
  const int softmax_row_;
  int buffer_ = 0;
  uint32_t q_[Type::kSteps][4];
  int row_end_ = 0;  // positions the softmax's row sees
  float row_scale_ = 0;
  float m_, d_;  // of the split; d this lane's part
};

}  // namespace ashlar::cuda
