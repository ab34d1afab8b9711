#pragma once

// Latent attention by warp products (mma.sync), 16 rows at a time.
//
// Eight warps walk tiles of tokens through a ring. Scores: a warp takes 16 tokens and a part of
// the width, its queries in registers; the parts meet in shared memory. Softmax: two rows a warp.
// Values: 64 of the 512 columns a warp, from the same bytes, read transposed. The scores of a tile
// are computed among the values of the tile before, so that the tensor cores wait for the softmax
// only, which takes two synchronisations.

#include "kernels/attention/cuda/state.cuh"
#include "kernels/cuda/f8.cuh"
#include "kernels/latent/cuda/ring.cuh"

namespace ashlar::cuda {

constexpr int kMmaWarps = 8;
constexpr int kMmaThreads = 32 * kMmaWarps;  // and a warp to fill the ring, on Hopper
constexpr int kMmaRows = 16;
constexpr int kMaxShared = 232448;
constexpr int kEarlyStages = 4;  // before Hopper, where a block has 163 KiB of shared memory

// On Hopper four warps more, of which one fills the ring; they give their registers away.
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
constexpr int kMmaFillThreads = 128;
#else
constexpr int kMmaFillThreads = 0;
#endif

// How rows of a type are laid out and multiplied.
template <class Query, DType kStored>
struct MmaType {
  static constexpr bool kF8 = is_f8(kStored);
  using Half = std::conditional_t<kF8, __half, Query>;  // products
  using Tile = RowTile<kStored, kF8 ? 64 : 32>;
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
  static constexpr int kStages = kF8 ? 5 : 6;
#else
  static constexpr int kStages = kEarlyStages;
#endif
  static constexpr int kGroups = Tile::kTokens / 16;  // warps that share a part of the width
  static constexpr int kParts = kMmaWarps / kGroups;  // of the width
  static constexpr int kPairs = Tile::kColumns;       // of chunks, in a part
  static constexpr int kPairSteps = kF8 ? 2 : 1;      // of 16 dims, in a pair of chunks
  static constexpr int kSteps = kPairs * kPairSteps;  // in a part
  static_assert(2 * kParts == Tile::kChunks);         // a part takes a pair of every column
};

template <class Type>
struct MmaShared {
  static constexpr int kTokens = Type::Tile::kTokens;
  static constexpr int kScoreStride = kTokens + 4;  // floats
  static constexpr int kProbStride = kTokens + 8;   // halves
  float scores[Type::kParts][kMmaRows][kScoreStride];
  uint16_t probs[kMmaRows][kProbStride];
  float factor[kMmaRows];  // of what rows hold
  float there[kMmaRows];   // at the end of a split: m of the total and of the split
  float comes[kMmaRows];
};

template <class Query, DType kStored>
class MmaBlock {
 public:
  using Type = MmaType<Query, kStored>;

 private:
  using Half = typename Type::Half;
  using Tile = typename Type::Tile;
  static constexpr int kTokens = Tile::kTokens;
  static constexpr int kLaneTokens = kTokens / 16;  // of a row, in the softmax

 public:
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
  using Ring = TensorRing<Tile, Type::kStages, kMmaThreads>;
#else
  using Ring = CopyRing<Tile, Type::kStages, kMmaThreads>;
#endif
  struct Shared {
    MmaShared<Type> rows;
    typename Ring::Barriers ring;
  };
  static constexpr int kRingBytes = Type::kStages * Tile::kBytes;
  static constexpr int shared_bytes(bool hopper) {
    return (hopper ? Type::kStages : kEarlyStages) * Tile::kBytes +
           static_cast<int>(sizeof(Shared));
  }
  static_assert(shared_bytes(true) <= kMaxShared && shared_bytes(false) <= 166912);

  __device__ MmaBlock(const LatentArgs& args, std::byte* ring, Shared& shared)
      : args_(args),
        ring_(args, ring, shared.ring),
        shared_(shared.rows),
        warp_(static_cast<int>(threadIdx.x) / 32),
        lane_(static_cast<int>(threadIdx.x) % 32),
        softmax_row_(2 * warp_ + lane_ / 16) {}

  __device__ void run(const CudaWork& work) {
    work_ = work;
    ring_.start(work);
    start_rows();
    load_queries();
    int state = work.state;
    start_split();
    clear(total_), total_m_ = -CUDART_INF_F, total_d_ = 0;
    const int n_tiles = (work.kv_end - work.kv_begin + kTokens - 1) / kTokens;
    int split_end = (work.kv_begin / args_.kv_split + 1) * args_.kv_split;
    uint32_t here = ring_.await(0), next = here;
    synchronise();
    multiply<false>(here, here);
    for (int i = 0, position = work.kv_begin; i < n_tiles; ++i, here = next) {
      synchronise();  // scores of tile i have come; nobody reads the tile before
      ring_.refill();
      softmax(position);
      if (i + 1 < n_tiles) next = ring_.await(i + 1);
      synchronise();
      multiply<true>(next, here);  // in the end, scores that nobody reads
      ring_.leave(i);
      position += kTokens;
      if (i + 1 < n_tiles && position < split_end) continue;
      split_end += args_.kv_split;
      end_split(state);
      start_split();
    }
    if (work.first) leave(state);
    synchronise();
    ring_.finish();
  }

 private:
  template <int kN>
  __device__ static void clear(float (&d)[kN][4]) {
#pragma unroll
    for (int n = 0; n < kN; ++n) d[n][0] = d[n][1] = d[n][2] = d[n][3] = 0;
  }
  // Among the eight warps.
  __device__ static void synchronise() {
    asm volatile("bar.sync 1, %0;" ::"n"(kMmaThreads) : "memory");
  }

  // --- queries ---

  __device__ const Query* query_row(int row) const {
    const WorkRow at = work_row(work_, row);
    return static_cast<const Query*>(args_.q) +
           (int64_t{work_.q_begin + at.token} * args_.heads + at.head) * kLatentQ;
  }

  // What the softmax needs of its row; and where products are f16, the power of two that brings a
  // bf16 row into f16's range.
  __device__ void start_rows() {
    const bool used = softmax_row_ < work_rows(work_);
    row_end_ = used ? work_.q_position + work_row(work_, softmax_row_).token + 1 : work_.kv_end;
    row_scale_ = args_.score_scale;
    if constexpr (Type::kF8 && std::is_same_v<Query, __nv_bfloat16>) {
      float largest = 0;
      if (used) {
        const Query* q = query_row(softmax_row_);
        for (int i = lane_ % 16; i < kLatentQ; i += 16)
          largest = fmaxf(largest, fabsf(static_cast<float>(q[i])));
      }
      for (int step = 8; step > 0; step /= 2)
        largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, step));
      const PowerOfTwo power(largest);
      if (lane_ % 16 == 0) shared_.factor[softmax_row_] = power.there;
      row_scale_ *= power.back;
      synchronise();
    }
  }

  __device__ void load_queries() {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int row = lane_ / 4 + 8 * r;
      const bool used = row < work_rows(work_);
      const Query* q = used ? query_row(row) : nullptr;
#pragma unroll
      for (int k = 0; k < Type::kSteps; ++k) {
        const int step = k % Type::kPairSteps + part() * Type::kPairSteps;
        load_query(q, used, row, 64 * (k / Type::kPairSteps) + 16 * step, q_[k][r], q_[k][r + 2]);
      }
    }
  }
  // 16 columns from `column`: in halves, 2j, 2j + 1 | 2j + 8, 2j + 9 of lane j; in FP8, the order
  // that split_f8 gives.
  __device__ void load_query(const Query* q, bool used, int row, int column, uint32_t& low,
                             uint32_t& high) {
    const int j = lane_ % 4;
    if constexpr (!Type::kF8) {
      const auto* words = reinterpret_cast<const uint32_t*>(q + column);
      low = used ? words[j] : 0;
      high = used ? words[j + 4] : 0;
    } else {
      float x[4] = {};
      if (used) {
        const uint2 words = reinterpret_cast<const uint2*>(q + column)[j];
        const auto* four = reinterpret_cast<const Query*>(&words);
        for (int i = 0; i < 4; ++i) x[i] = static_cast<float>(four[i]);
        if constexpr (std::is_same_v<Query, __nv_bfloat16>)
          for (float& value : x) value *= shared_.factor[row];
      }
      low = pack<__half>(x[0], x[2]);
      high = pack<__half>(x[1], x[3]);
    }
  }

  // --- one tile ---

  // The warp's part of the width, and its 16 tokens.
  __device__ int part() const { return warp_ / Type::kGroups; }
  __device__ int first_token() const { return warp_ % Type::kGroups * 16; }

  // Scores of one tile (partial, to shared memory) and, if kWeigh, values of another, in turns.
  template <bool kWeigh>
  __device__ void multiply(uint32_t score_tile, uint32_t weigh_tile) {
    const int k_token = first_token() + lane_ % 8 + lane_ / 16 * 8, v_token = lane_ % 16;
    const uint32_t keys = score_tile + Tile::offset(k_token, 2 * part() + (lane_ / 8 & 1));
    const uint32_t values =
        weigh_tile + warp_ * Tile::kColumnBytes + Tile::offset(v_token, lane_ / 16);
    constexpr int kAcross = Tile::kChunks / 2;  // pairs of chunks in 64 columns
    constexpr int kWeighSteps = kTokens / 16 * kAcross;
    const uint32_t probs = shared_address(&shared_.probs[lane_ % 16][lane_ / 16 * 8]);
    float s[4][4];  // two tiles of 8 tokens, two sums each
    uint32_t p[4];
    clear(s);
    if constexpr (kWeigh) scale_values();
#pragma unroll
    for (int i = 0; i < max(Type::kPairs, kWeighSteps); ++i) {
      if (i < Type::kPairs) {
        uint32_t k[4];
        load_matrix(k, keys + i * Tile::kColumnBytes);
        score_pair(s, i, k);
      }
      if (kWeigh && i < kWeighSteps) {
        if (i % kAcross == 0) load_matrix(p, probs + i / kAcross * 32);
        uint32_t v[4];
        load_matrix_transposed(v, (values ^ i % kAcross * 32) + i / kAcross * 16 * Tile::kLine);
        weigh_pair(i % kAcross, p, v);
      }
    }
    put_scores(s);
  }

  // Two chunks of 16 tokens: k[0], k[1] of the first eight, k[2], k[3] of the others.
  __device__ void score_pair(float (&s)[4][4], int i, const uint32_t (&k)[4]) {
    if constexpr (!Type::kF8) {
      mma<Half>(s[i % 2 * 2], q_[i], k[0], k[1]);
      mma<Half>(s[i % 2 * 2 + 1], q_[i], k[2], k[3]);
    } else {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        uint32_t even, odd;
        split_f8<kStored>(k[j], even, odd);
        mma<Half>(s[j % 2 * 2 + j / 2], q_[2 * i + j % 2], even, odd);
      }
    }
  }
  __device__ void put_scores(const float (&s)[4][4]) {
    const int column = first_token() + lane_ % 4 * 2;
    auto& scores = shared_.scores[part()];
#pragma unroll
    for (int n = 0; n < 2; ++n) {
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        *reinterpret_cast<float2*>(&scores[lane_ / 4 + 8 * r][column + 8 * n]) = {
            s[n][2 * r] + s[n + 2][2 * r], s[n][2 * r + 1] + s[n + 2][2 * r + 1]};
      }
    }
  }

  // A few tokens of one row a lane: probabilities and the factor of what the row holds.
  __device__ void softmax(int position) {
    const int token = lane_ % 16 * kLaneTokens;
    const int left = row_end_ - position - token;
    float s[kLaneTokens] = {};
    float m = m_;
#pragma unroll
    for (int part = 0; part < Type::kParts; ++part) {
#pragma unroll
      for (int i = 0; i < kLaneTokens; i += 2) {
        const float2 two =
            *reinterpret_cast<float2*>(&shared_.scores[part][softmax_row_][token + i]);
        s[i] += two.x, s[i + 1] += two.y;
      }
    }
#pragma unroll
    for (int i = 0; i < kLaneTokens; ++i) {
      s[i] = i < left ? s[i] * row_scale_ : -CUDART_INF_F;
      m = fmaxf(m, s[i]);
    }
    for (int step = 8; step > 0; step /= 2) m = fmaxf(m, __shfl_xor_sync(~0u, m, step));
    const float factor = exp2_approx(m_ - reference_of(m));
    float sum = 0;
#pragma unroll
    for (int i = 0; i < kLaneTokens; ++i) {
      s[i] = exp2_approx(s[i] - reference_of(m));
      sum += s[i];
    }
    m_ = m;
    d_ = d_ * factor + sum;
#pragma unroll
    for (int i = 0; i < kLaneTokens; i += 2) {
      *reinterpret_cast<uint32_t*>(&shared_.probs[softmax_row_][token + i]) =
          pack<Half>(s[i], s[i + 1]);
    }
    if (lane_ % 16 == 0) shared_.factor[softmax_row_] = factor;
  }

  __device__ void scale_values() {
    const float low = shared_.factor[lane_ / 4], high = shared_.factor[lane_ / 4 + 8];
    if (!__any_sync(~0u, low != 1.0f || high != 1.0f)) return;
#pragma unroll
    for (int n = 0; n < 8; ++n)
      o_[n][0] *= low, o_[n][1] *= low, o_[n][2] *= high, o_[n][3] *= high;
  }
  // Two chunks of 16 tokens: v[0], v[1] are the first chunk's tokens, v[2], v[3] the second's.
  __device__ void weigh_pair(int j, const uint32_t (&p)[4], const uint32_t (&v)[4]) {
    if constexpr (!Type::kF8) {
      mma<Half>(o_[2 * j], p, v[0], v[1]);
      mma<Half>(o_[2 * j + 1], p, v[2], v[3]);
    } else {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        uint32_t even0, odd0, even1, odd1;
        split_f8<kStored>(v[2 * i], even0, odd0);
        split_f8<kStored>(v[2 * i + 1], even1, odd1);
        mma<Half>(o_[4 * j + 2 * i], p, even0, even1);
        mma<Half>(o_[4 * j + 2 * i + 1], p, odd0, odd1);
      }
    }
  }

  // --- states ---

  __device__ void start_split() {
    m_ = -CUDART_INF_F, d_ = 0;
    clear(o_);
  }

  // Adds the split to the total, or leaves it as a state of its own.
  __device__ void end_split(int& state) {
    for (int step = 8; step > 0; step /= 2) d_ += __shfl_xor_sync(~0u, d_, step);
    if (!work_.first) return store_state(state++, m_, d_, o_);
    if (lane_ % 16 == 0) shared_.there[softmax_row_] = total_m_, shared_.comes[softmax_row_] = m_;
    const Fold fold(total_m_, m_);
    total_m_ = fold.m;
    total_d_ = fold(total_d_, d_);
    synchronise();
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int row = lane_ / 4 + 8 * r;
      const Fold row_fold(shared_.there[row], shared_.comes[row]);
#pragma unroll
      for (int n = 0; n < 8; ++n) {
        total_[n][2 * r] = row_fold(total_[n][2 * r], o_[n][2 * r]);
        total_[n][2 * r + 1] = row_fold(total_[n][2 * r + 1], o_[n][2 * r + 1]);
      }
    }
  }

  // The total becomes the result, or the first state of several.
  __device__ void leave(int state) {
    if (state >= 0) return store_state(state, total_m_, total_d_, total_);
    synchronise();
    if (lane_ % 16 == 0)
      shared_.factor[softmax_row_] = final_factor(total_m_, total_d_, -CUDART_INF_F, args_.v_scale);
    synchronise();
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int row = lane_ / 4 + 8 * r;
      if (row >= work_rows(work_)) continue;
      const WorkRow at = work_row(work_, row);
      Query* out = static_cast<Query*>(args_.out) +
                   (int64_t{work_.q_begin + at.token} * args_.heads + at.head) * kLatentWidth;
      const float scale = shared_.factor[row];
      each_column_pair(total_, r, [&](int column, float x, float y) {
        *reinterpret_cast<uint32_t*>(out + column) = pack<Query>(x * scale, y * scale);
      });
    }
  }

  __device__ void store_state(int state, float m, float d, const float (&o)[8][4]) {
    float* to = args_.states + int64_t{state} * args_.tile_rows * kStateWidth;
    if (lane_ % 16 == 0 && softmax_row_ < work_rows(work_)) {
      *reinterpret_cast<float2*>(to + softmax_row_ * kStateWidth) = {m, d};
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int row = lane_ / 4 + 8 * r;
      if (row >= work_rows(work_)) continue;
      float* row_to = to + row * kStateWidth + kStateHead;
      each_column_pair(o, r, [&](int column, float x, float y) {
        *reinterpret_cast<float2*>(row_to + column) = {x, y};
      });
    }
  }

  // take(column, value, value of column + 1) for what this lane holds of row lane / 4 + 8 r.
  template <class Take>
  __device__ void each_column_pair(const float (&o)[8][4], int r, Take take) const {
    const int first = warp_ * 64;
#pragma unroll
    for (int n = 0; n < 8; ++n) {
      if constexpr (!Type::kF8) {
        take(first + 8 * n + lane_ % 4 * 2, o[n][2 * r], o[n][2 * r + 1]);
      } else if (n % 2 == 0) {  // even columns here, odd ones in the next
        const int column = first + 8 * n + lane_ % 4 * 4;
        take(column, o[n][2 * r], o[n + 1][2 * r]);
        take(column + 2, o[n][2 * r + 1], o[n + 1][2 * r + 1]);
      }
    }
  }

  const LatentArgs& args_;
  Ring ring_;
  MmaShared<Type>& shared_;
  const int warp_;
  const int lane_;
  const int softmax_row_;
  CudaWork work_;
  uint32_t q_[Type::kSteps][4];
  int row_end_ = 0;  // positions the softmax's row sees
  float row_scale_ = 0;
  float m_, d_, total_m_, total_d_;
  float o_[8][4];      // of the split: rows lane / 4 and + 8 by 64 columns
  float total_[8][4];  // of the splits before
};

template <class Query, DType kStored>
__global__ void __launch_bounds__(kMmaThreads + kMmaFillThreads, 1)
    latent_mma(const __grid_constant__ LatentArgs args, const __grid_constant__ CUtensorMap map) {
  using Block = MmaBlock<Query, kStored>;
  extern __shared__ __align__(1024) std::byte ring[];
  auto& shared = *reinterpret_cast<typename Block::Shared*>(ring + Block::kRingBytes);
  launch_dependents();
#if __CUDA_ARCH__ >= 900
  if (threadIdx.x == 0) shared.ring.init(kMmaWarps);
  __syncthreads();
  if (threadIdx.x >= kMmaThreads) {
    registers_give<40>();
    if (threadIdx.x < kMmaThreads + 32)
      fill_ring<typename Block::Type::Tile>(args, &map, ring, shared.ring);
  } else {
    registers_take<232>();
    Block block(args, ring, shared);
    for (int i = first_work(args); i < last_work(args); ++i) block.run(args.works[i]);
  }
#else
  Block block(args, ring, shared);
  for (int i = first_work(args); i < last_work(args); ++i) block.run(args.works[i]);
#endif
}

}  // namespace ashlar::cuda
