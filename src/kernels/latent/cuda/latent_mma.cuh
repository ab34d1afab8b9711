#pragma once

// Latent attention by warp products (mma.sync), 16 rows at a time.
//
// A block of eight warps walks tiles of 64 tokens through a ring that cp.async fills, two tiles or
// more ahead. Scores: four warps take 16 tokens each of the first half of the width, four of the
// second, queries in registers; the halves meet in shared memory. Softmax: two rows a warp.
// Values: 64 of the 512 columns a warp, from the same bytes, read transposed.
//
// Rows lie unpadded in the ring; 16-byte chunks are permuted by an exclusive or with bits of the
// row so that eight rows of one chunk meet eight different banks.

#include "kernels/attention/cuda/state.cuh"
#include "kernels/cuda/f8.cuh"
#include "kernels/latent/cuda/rows.cuh"

namespace ashlar::cuda {

constexpr int kMmaWarps = 8;
constexpr int kMmaThreads = 32 * kMmaWarps;
constexpr int kMmaRows = 16;
constexpr int kMmaTile = 64;  // tokens
constexpr int kMaxShared = 232448;

// How rows of a type are laid out and multiplied.
template <class Query, DType kStored>
struct MmaType {
  static constexpr bool kF8 = is_f8(kStored);
  using Half = std::conditional_t<kF8, __half, Query>;  // products
  static constexpr int kRowBytes = kLatentQ * (kF8 ? 1 : 2);
  static constexpr int kTileBytes = kMmaTile * kRowBytes;
  static constexpr int kStages = kF8 ? 5 : 3;
  static constexpr int kChunks = kRowBytes / 16;
  static constexpr int kSteps = kLatentQ / 16 / 2;    // of 16 dims, in half the width
  static constexpr int kPairs = kChunks / 2 / 2;      // of chunks, in half the width
  static constexpr int kPairSteps = kSteps / kPairs;  // of 16 dims, in a pair of chunks
  static constexpr int kPeriod = kF8 ? 2 : 4;         // pairs after which swizzles repeat
  static constexpr int kValueChunks = kChunks * kLatentWidth / kLatentQ / kMmaWarps;
  __device__ static int swizzle(int row) { return kF8 ? row >> 1 & 3 : row & 7; }
};

struct MmaShared {
  static constexpr int kScoreStride = kMmaTile + 4;  // floats
  static constexpr int kProbStride = kMmaTile + 8;   // halves
  float scores[2][kMmaRows][kScoreStride];
  uint16_t probs[kMmaRows][kProbStride];
  float factor[kMmaRows];  // of what rows hold
  float there[kMmaRows];   // at the end of a split: m of the total and of the split
  float comes[kMmaRows];
};

template <class Query, DType kStored>
class MmaBlock {
  using Type = MmaType<Query, kStored>;
  using Half = typename Type::Half;

 public:
  static constexpr int kSharedBytes = Type::kStages * Type::kTileBytes + sizeof(MmaShared);
  static_assert(kSharedBytes <= kMaxShared);

  __device__ MmaBlock(const LatentArgs& args, std::byte* ring)
      : args_(args),
        ring_(shared_address(ring)),
        shared_(*reinterpret_cast<MmaShared*>(ring + Type::kStages * Type::kTileBytes)),
        warp_(static_cast<int>(threadIdx.x) / 32),
        lane_(static_cast<int>(threadIdx.x) % 32),
        softmax_row_(2 * warp_ + lane_ / 16) {}

  __device__ void run(const CudaWork& work) {
    work_ = work;
    n_tiles_ = (work.kv_end - work.kv_begin + kMmaTile - 1) / kMmaTile;
    find_rows(0);
    for (int i = 0; i < Type::kStages - 1; ++i) copy_tile(i);
    start_rows();
    load_queries();
    int state = work.state;
    start_split();
    clear(total_), total_m_ = -CUDART_INF_F, total_d_ = 0;
    for (int i = 0; i < n_tiles_; ++i) {
      copy_async_wait<Type::kStages - 2>();
      __syncthreads();  // tile i has come, for everyone; nobody reads tile i - 1
      copy_tile(i + Type::kStages - 1);
      score(i);
      __syncthreads();
      softmax(i);
      __syncthreads();
      weigh(i);
      const int end = work.kv_begin + (i + 1) * kMmaTile;
      if (i + 1 == n_tiles_ || end % args_.kv_split == 0) {
        end_split(state);
        start_split();
      }
    }
    if (work.first) leave(state);
    copy_async_wait<0>();
    __syncthreads();
  }

 private:
  template <int kN>
  __device__ static void clear(float (&d)[kN][4]) {
#pragma unroll
    for (int n = 0; n < kN; ++n) d[n][0] = d[n][1] = d[n][2] = d[n][3] = 0;
  }

  // --- copies ---

  static constexpr int kRowThreads = kMmaThreads / (Type::kF8 ? 64 : 32);
  static constexpr int kThreadRows = kMmaTile * kRowThreads / kMmaThreads;
  static constexpr int kThreadChunks = Type::kChunks / kRowThreads;

  __device__ int copied_row(int i) const {
    return static_cast<int>(threadIdx.x) / kRowThreads + i * (kMmaThreads / kRowThreads);
  }
  // Reads the table for tile `tile`, whose copies come later.
  __device__ void find_rows(int tile) {
#pragma unroll
    for (int i = 0; i < kThreadRows; ++i) {
      const int position = work_.kv_begin + tile * kMmaTile + copied_row(i);
      if (position < work_.kv_end) granules_[i] = work_.pages[position >> args_.page_shift];
    }
  }
  // Queues the copies of the tile whose rows have been found, as one group; finds the next's.
  __device__ void copy_tile(int tile) {
    if (tile < n_tiles_) {
      const int chunk = static_cast<int>(threadIdx.x) % kRowThreads;
      const uint32_t to = ring_ + tile % Type::kStages * Type::kTileBytes;
#pragma unroll
      for (int i = 0; i < kThreadRows; ++i) {
        const int row = copied_row(i), position = work_.kv_begin + tile * kMmaTile + row;
        const bool valid = position < work_.kv_end;
        const std::byte* from =
            valid ? row_at<Type::kRowBytes>(args_, granules_[i], position) : args_.rows;
        const uint32_t row_to = to + row * Type::kRowBytes;
#pragma unroll
        for (int j = 0; j < kThreadChunks; ++j) {
          const int at = chunk + j * kRowThreads;
          copy_async_16(row_to + 16 * (at ^ Type::swizzle(row)), from + (valid ? 16 * at : 0),
                        valid);
        }
      }
      find_rows(tile + 1);
    }
    copy_async_commit();
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
      constexpr uint32_t kUp = 13;  // brings the greatest to 2^13 or a little more
      const uint32_t exponent = max(__float_as_uint(largest) >> 23, kUp + 1);
      if (lane_ % 16 == 0)
        shared_.factor[softmax_row_] = __uint_as_float((254 + kUp - exponent) << 23);
      row_scale_ *= __uint_as_float((exponent - kUp) << 23);
      __syncthreads();
    }
  }

  __device__ void load_queries() {
    const int half = warp_ / 4 * (kLatentQ / 2);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int row = lane_ / 4 + 8 * r;
      const bool used = row < work_rows(work_);
      const Query* q = used ? query_row(row) + half : nullptr;
#pragma unroll
      for (int k = 0; k < Type::kSteps; ++k) load_query(q, used, row, k, q_[k][r], q_[k][r + 2]);
    }
  }
  // Columns of step k: in halves, 2j, 2j + 1 | 2j + 8, 2j + 9 of lane j; in FP8, the order that
  // split_f8 gives.
  __device__ void load_query(const Query* q, bool used, int row, int k, uint32_t& low,
                             uint32_t& high) {
    const int j = lane_ % 4;
    if constexpr (!Type::kF8) {
      const auto* words = reinterpret_cast<const uint32_t*>(q);
      low = used ? words[8 * k + j] : 0;
      high = used ? words[8 * k + j + 4] : 0;
    } else {
      float x[4] = {};
      if (used) {
        const uint2 words = reinterpret_cast<const uint2*>(q)[4 * k + j];
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

  __device__ uint32_t stage(int tile) const {
    return ring_ + tile % Type::kStages * Type::kTileBytes;
  }

  // 16 tokens by half the width: partial scores to shared memory.
  __device__ void score(int tile) {
    const int row = warp_ % 4 * 16 + lane_ % 8 + lane_ / 16 * 8;
    const uint32_t base = stage(tile) + row * Type::kRowBytes;
    const int chunk = warp_ / 4 * (Type::kChunks / 2) + (lane_ / 8 & 1);
    uint32_t from[Type::kPeriod];
#pragma unroll
    for (int p = 0; p < Type::kPeriod; ++p)
      from[p] = base + 16 * ((chunk + 2 * p) ^ Type::swizzle(row));
    float s[4][4];  // two tiles of 8 tokens, two sums each
    clear(s);
#pragma unroll
    for (int p = 0; p < Type::kPairs; ++p) {
      uint32_t k[4];
      load_matrix(k, from[p % Type::kPeriod] + p / Type::kPeriod * Type::kPeriod * 32);
      score_pair(s, p, k);
    }
    const int column = warp_ % 4 * 16 + lane_ % 4 * 2;
    auto& scores = shared_.scores[warp_ / 4];
#pragma unroll
    for (int n = 0; n < 2; ++n) {
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        *reinterpret_cast<float2*>(&scores[lane_ / 4 + 8 * r][column + 8 * n]) = {
            s[n][2 * r] + s[n + 2][2 * r], s[n][2 * r + 1] + s[n + 2][2 * r + 1]};
      }
    }
  }
  // Two chunks of 16 tokens: k[0], k[1] of the first eight, k[2], k[3] of the others.
  __device__ void score_pair(float (&s)[4][4], int p, const uint32_t (&k)[4]) {
    if constexpr (!Type::kF8) {
      mma<Half>(s[p % 2 * 2], q_[p], k[0], k[1]);
      mma<Half>(s[p % 2 * 2 + 1], q_[p], k[2], k[3]);
    } else {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        uint32_t even, odd;
        split_f8<kStored>(k[i], even, odd);
        mma<Half>(s[i % 2 * 2 + i / 2], q_[2 * p + i % 2], even, odd);
      }
    }
  }

  // Four tokens of one row a lane: probabilities and the factor of what the row holds.
  __device__ void softmax(int tile) {
    const int token = lane_ % 16 * 4;
    const int left = row_end_ - (work_.kv_begin + tile * kMmaTile + token);
    const float4 a = *reinterpret_cast<float4*>(&shared_.scores[0][softmax_row_][token]);
    const float4 b = *reinterpret_cast<float4*>(&shared_.scores[1][softmax_row_][token]);
    float s[4] = {a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w};
    float m = m_;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      s[i] = i < left ? s[i] * row_scale_ : -CUDART_INF_F;
      m = fmaxf(m, s[i]);
    }
    for (int step = 8; step > 0; step /= 2) m = fmaxf(m, __shfl_xor_sync(~0u, m, step));
    const float from = reference_of(m);
    const float factor = exp2_approx(m_ - from);
#pragma unroll
    for (int i = 0; i < 4; ++i) s[i] = exp2_approx(s[i] - from);
    m_ = m;
    d_ = d_ * factor + ((s[0] + s[1]) + (s[2] + s[3]));
    *reinterpret_cast<uint2*>(&shared_.probs[softmax_row_][token]) = {pack<Half>(s[0], s[1]),
                                                                      pack<Half>(s[2], s[3])};
    if (lane_ % 16 == 0) shared_.factor[softmax_row_] = factor;
  }

  // o = o * factor + probabilities * values, 64 columns.
  __device__ void weigh(int tile) {
    const float low = shared_.factor[lane_ / 4], high = shared_.factor[lane_ / 4 + 8];
    if (__any_sync(~0u, low != 1.0f || high != 1.0f)) {
#pragma unroll
      for (int n = 0; n < 8; ++n)
        o_[n][0] *= low, o_[n][1] *= low, o_[n][2] *= high, o_[n][3] *= high;
    }
    const uint32_t probs = shared_address(&shared_.probs[lane_ % 16][lane_ / 16 * 8]);
    const int row = lane_ % 16;
    const uint32_t base = stage(tile) + row * Type::kRowBytes;
    uint32_t from[Type::kValueChunks / 2];
#pragma unroll
    for (int j = 0; j < Type::kValueChunks / 2; ++j) {
      const int chunk = warp_ * Type::kValueChunks + 2 * j + lane_ / 16;
      from[j] = base + 16 * (chunk ^ Type::swizzle(row));
    }
#pragma unroll
    for (int t = 0; t < kMmaTile / 16; ++t) {
      uint32_t p[4];
      load_matrix(p, probs + t * 32);
#pragma unroll
      for (int j = 0; j < Type::kValueChunks / 2; ++j) {
        uint32_t v[4];
        load_matrix_transposed(v, from[j] + t * 16 * Type::kRowBytes);
        weigh_pair(j, p, v);
      }
    }
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
    __syncthreads();
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
    __syncthreads();
    if (lane_ % 16 == 0)
      shared_.factor[softmax_row_] = final_factor(total_m_, total_d_, -CUDART_INF_F, args_.v_scale);
    __syncthreads();
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
  const uint32_t ring_;
  MmaShared& shared_;
  const int warp_;
  const int lane_;
  const int softmax_row_;
  CudaWork work_;
  int n_tiles_ = 0;
  uint32_t granules_[kThreadRows] = {};
  uint32_t q_[Type::kSteps][4];
  int row_end_ = 0;  // positions the softmax's row sees
  float row_scale_ = 0;
  float m_, d_, total_m_, total_d_;
  float o_[8][4];      // of the split: rows lane / 4 and + 8 by 64 columns
  float total_[8][4];  // of the splits before
};

template <class Query, DType kStored>
__global__ void __launch_bounds__(kMmaThreads, 1)
    latent_mma(const __grid_constant__ LatentArgs args) {
  extern __shared__ __align__(1024) std::byte ring[];
  launch_dependents();
  MmaBlock<Query, kStored> block(args, ring);
  for (int i = args.queue[blockIdx.x]; i < args.queue[blockIdx.x + 1]; ++i)
    block.run(args.works[i]);
}

}  // namespace ashlar::cuda
