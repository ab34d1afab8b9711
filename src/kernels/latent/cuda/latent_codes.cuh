#pragma once

// Latent attention over FP8 rows by warpgroup products (sm_90a), 64 query rows at a time.
//
// Both products are turned, so that the rows of the cache are the left operand, which may come from
// registers: it is widened on the way (wgmma_codes.cuh). Shared memory holds the queries as f16, a
// ring of raw tiles and two tiles' weights.
//
//   scores  [64 tokens x 64 rows]   = K Q^T     of every other tile by either warpgroup
//   o       [512 columns x 64 rows] += V^T P    either warpgroup has 256 columns
//
//   warpgroup 0:  S0          | weights 0 | V0  S2 V1 | weights 2 | V2  S4 V3 ...
//   warpgroup 1:  S1       V0 | weights 1 | V1  S3 V2 | weights 3 | V3 ...
//
// So one makes weights beside the other's products.

#include "kernels/attention/cuda/state.cuh"
#include "kernels/latent/cuda/wgmma_codes.cuh"

namespace ashlar::cuda {

constexpr int kCodeThreads = 256;  // that multiply
constexpr int kCodeStages = 3;

struct CodesShared {
  std::byte queries[QueryTile::kBytes];
  std::byte ring[kCodeStages * CodeTile::kBytes];
  std::byte weights[2][kWeightBytes];  // of the warpgroup's tile
  float2 row[kWgmmaRows];              // scale of scores; reference, finite
  float m[kWgmmaRows];                 // reference, -inf for a row that saw nothing
  float factor[2][kWgmmaRows];         // of what rows held before the warpgroup's tile
  int raised[2][2];                    // some factor is not 1, by half of the rows
  float highest[2][4][kWgmmaRows];     // [warpgroup][warp]
  float d[2][4][kWgmmaRows];
  float2 sums[kWgmmaRows];  // m and d of the split, and of the splits before
  float2 total[kWgmmaRows];
  int row_end[kWgmmaRows];  // positions the row sees
  CudaWork work;
  RingBarriers<kCodeStages> tiles;
  Barrier given[2];  // the warpgroup's weights are there

  __device__ void init() {
    tiles.init(kCodeThreads / 32);
    given[0].init(4), given[1].init(4);
    fence_barrier_init();
  }
};
static_assert(sizeof(CodesShared) <= 232448);

template <class Query, DType kStored>
class CodesBlock {
 public:
  enum Sync { kBoth = 1, kOwn };  // named barriers; the second warpgroup's own is kOwn + 1

  __device__ CodesBlock(const LatentArgs& args, CodesShared& shared)
      : args_(args),
        shared_(shared),
        thread_(static_cast<int>(threadIdx.x) % 128),
        group_(__shfl_sync(~0u, static_cast<int>(threadIdx.x) / 128, 0)),
        warp_(__shfl_sync(~0u, thread_ / 32, 0)),
        lane_(thread_ % 32),
        first_row_(static_cast<int>(blockIdx.x) % args.blocks * kWgmmaRows) {}

  __device__ void run(const CudaWork& next) {
    if (threadIdx.x < sizeof(CudaWork) / 4)
      reinterpret_cast<uint32_t*>(&shared_.work)[threadIdx.x] =
          reinterpret_cast<const uint32_t*>(&next)[threadIdx.x];
    sync_threads(kBoth, kCodeThreads);
    load_queries(shared_.work);
    all_see_ = shared_.work.q_position + shared_.work.token_begin + 1;
    walk_splits(args_, shared_.work, *this);
    sync_threads(kBoth, kCodeThreads);  // the queries may go
  }

  // --- what walk_splits() asks for ---

  __device__ void sum_split(int begin, int end) {
    start_split();
    coming_ = going_;
    if (group_ == 1) coming_.next();
    const int n = (end - begin + kCodeTokens - 1) / kCodeTokens;
    for (int i = group_; i < n; i += 2) {
      score(begin + i * kCodeTokens, end);
      if (i > 0) add_values<CodeOperands::kAfterScores>(group_ ^ 1);
      operands_.finish();
      held(s_);
      each_block([&](float(&o)[32]) { held(o); });
      weigh(begin + i * kCodeTokens);
      add_values<CodeOperands::kBeforeScores>(group_);
    }
    if (n % 2 != group_) return end_split();
    operands_.finish();
    add_values<0>(group_ ^ 1);
    end_split();
  }

  // The total of the splits before lies in device memory, in the block's own scratch.
  __device__ void put_total() {
    if (threadIdx.x < kWgmmaRows) shared_.total[thread_] = shared_.sums[thread_];
    float4* to = scratch();
#pragma unroll
    for (int i = 0; i < 32; ++i) {
      const float* o = &o_[i / 8][i % 8 * 4];
      to[i * kCodeThreads] = make_float4(o[0], o[1], o[2], o[3]);
    }
  }
  __device__ void add_total() {
    const float4* from = scratch();
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const int row = first_of(j);
      const Fold low(shared_.total[row].x, shared_.sums[row].x);
      const Fold high(shared_.total[row + 1].x, shared_.sums[row + 1].x);
#pragma unroll
      for (int block = 0; block < 4; ++block) {
        float* o = &o_[block][4 * j];
        float4 total;
        asm volatile("ld.global.v4.f32 {%0, %1, %2, %3}, [%4];"
                     : "=f"(total.x), "=f"(total.y), "=f"(total.z), "=f"(total.w)
                     : "l"(from + (8 * block + j) * kCodeThreads));
        o[0] = low(total.x, o[0]), o[1] = high(total.y, o[1]);
        o[2] = low(total.z, o[2]), o[3] = high(total.w, o[3]);
      }
    }
    sync_threads(kBoth, kCodeThreads);
    if (threadIdx.x < kWgmmaRows) {
      const float2 total = shared_.total[thread_], split = shared_.sums[thread_];
      const Fold fold(total.x, split.x);
      shared_.sums[thread_] = make_float2(fold.m, fold(total.y, split.y));
    }
    sync_threads(kBoth, kCodeThreads);
  }
  __device__ void store_state(const CudaWork& work, int state) {
    float* to = args_.states + (int64_t{state} * args_.tile_rows + first_row_) * kStateWidth;
    const int n = work_rows(work) - first_row_;
    if (threadIdx.x < kWgmmaRows && thread_ < n)
      *reinterpret_cast<float2*>(to + thread_ * kStateWidth) = shared_.sums[thread_];
    each_row([&](int row, int j, int e) {
      if (row >= n) return;
      float* row_to = to + row * kStateWidth + kStateHead + first_column();
#pragma unroll
      for (int block = 0; block < 4; ++block)
        *reinterpret_cast<float2*>(row_to + 64 * block) =
            make_float2(o_[block][4 * j + e], o_[block][4 * j + 2 + e]);
    });
  }
  __device__ void store_rows(const CudaWork& work) {
    const int n = work_rows(work) - first_row_;
    each_row([&](int row, int j, int e) {
      if (row >= n) return;
      const WorkRow at = work_row(work, first_row_ + row);
      const float2 sums = shared_.sums[row];
      const float factor = final_factor(sums.x, sums.y, -CUDART_INF_F, args_.v_scale);
      Query* row_to = static_cast<Query*>(args_.out) +
                      (int64_t{work.q_begin + at.token} * args_.heads + at.head) * kLatentWidth +
                      first_column();
#pragma unroll
      for (int block = 0; block < 4; ++block)
        *reinterpret_cast<uint32_t*>(row_to + 64 * block) =
            pack<Query>(o_[block][4 * j + e] * factor, o_[block][4 * j + 2 + e] * factor);
    });
  }

 private:
  // --- queries ---

  // Four threads a row, nine groups of 16 elements each, read twice: for the row's greatest, which
  // says by what power of two bf16 fits f16, and to be laid out. A lane of the left operand has
  // four neighbouring codes of 16: pairs 0, 2, 4, 6 of a query meet its first chunk, the others its
  // second.
  __device__ void load_queries(const CudaWork& work) {
    const int row = static_cast<int>(threadIdx.x) / 4, part = static_cast<int>(threadIdx.x) % 4;
    const Query* from = nullptr;
    int end = work.kv_end;
    if (first_row_ + row < work_rows(work)) {
      const WorkRow at = work_row(work, first_row_ + row);
      end = work.q_position + at.token + 1;
      from = static_cast<const Query*>(args_.q) +
             (int64_t{work.q_begin + at.token} * args_.heads + at.head) * kLatentQ;
    }
    float there = 1, back = 1;
    if constexpr (std::is_same_v<Query, __nv_bfloat16>) {
      float largest = 0;
#pragma unroll 3
      for (int i = 0; i < 9; ++i) {
        const Sixteen q(from, part + 4 * i);
#pragma unroll
        for (const float2 x : q.x) largest = fmaxf(largest, fmaxf(fabsf(x.x), fabsf(x.y)));
      }
      largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, 1));
      largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, 2));
      const PowerOfTwo power(largest);
      there = power.there, back = power.back;
    }
    if (part == 0) shared_.row[row].x = args_.score_scale * back, shared_.row_end[row] = end;
    const uint32_t to = shared_address(shared_.queries);
#pragma unroll 3
    for (int i = 0; i < 9; ++i) {
      const Sixteen q(from, part + 4 * i);
      uint32_t pairs[8];
#pragma unroll
      for (int k = 0; k < 8; ++k) pairs[k] = pack<__half>(q.x[k].x * there, q.x[k].y * there);
      const int chunk = 2 * (part + 4 * i);
      const uint32_t column = to + chunk / 8 * QueryTile::kColumnBytes;
      write_shared_16(column + QueryTile::offset(row, chunk % 8),
                      make_uint4(pairs[0], pairs[2], pairs[4], pairs[6]));
      write_shared_16(column + QueryTile::offset(row, chunk % 8 + 1),
                      make_uint4(pairs[1], pairs[3], pairs[5], pairs[7]));
    }
    fence_proxy_async();
    sync_threads(kBoth, kCodeThreads);
  }
  // Sixteen elements of a query, zeros where there is none.
  struct Sixteen {
    float2 x[8];

    __device__ Sixteen(const Query* row, int group) {
      uint4 words[2] = {};
      if (row) {
        words[0] = reinterpret_cast<const uint4*>(row)[2 * group];
        words[1] = reinterpret_cast<const uint4*>(row)[2 * group + 1];
      }
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        if constexpr (std::is_same_v<Query, __half>) {
          x[i] = __half22float2(reinterpret_cast<const __half2*>(words)[i]);
        } else {
          x[i] = __bfloat1622float2(reinterpret_cast<const __nv_bfloat162*>(words)[i]);
        }
      }
    }
  };

  // --- a tile ---

  // Of this lane, in s_ and o_: s_[4 j + 2 r + e] is token 16 warp + lane / 4 + 8 r, row
  // first_of(j)
  // + e; o_[block][4 j + 2 r + e] is column first_column() + 64 block + r of the same row.
  __device__ int first_of(int j) const { return 8 * j + lane_ % 4 * 2; }
  __device__ int first_column() const { return 256 * group_ + 16 * warp_ + lane_ / 4 * 2; }
  template <class Do>
  __device__ void each_row(Do act) const {
#pragma unroll
    for (int i = 0; i < 16; ++i) act(first_of(i / 2) + i % 2, i / 2, i % 2);
  }
  template <class Do>
  __device__ void each_block(Do act) {
    act(o_[0]), act(o_[1]), act(o_[2]), act(o_[3]);
  }

  // Begins s = K Q^T of this warpgroup's next tile.
  __device__ void score(int at, int end) {
    const uint32_t tile = tile_at(coming_);
    shared_.tiles.full[coming_.stage].wait(coming_.parity);
    coming_.next(), coming_.next();
    if (at + kCodeTokens > end) clear_tokens<CodeTile>(tile, end - at, thread_, 128);
#pragma unroll
    for (int i = 0; i < 32; ++i) s_[i] = 0;
    held(s_);
    operands_.score<kStored>(s_, tile, shared_address(shared_.queries), warp_, lane_);
  }
  __device__ uint32_t tile_at(const RingPlace<kCodeStages>& place) const {
    return shared_address(shared_.ring) + place.stage * CodeTile::kBytes;
  }

  // Begins o += V^T P of the next tile, `group`'s.
  template <int kFirst>
  __device__ void add_values(int group) {
    shared_.given[group].wait(given_parity_ >> group & 1);
    given_parity_ ^= 1u << group;
    if (group != group_) rescale(group);
    const uint32_t columns = tile_at(going_) + 4 * group_ * CodeTile::kColumnBytes;
    operands_.add_values<kStored, kFirst>(o_, columns, shared_address(shared_.weights[group]),
                                          warp_, lane_);
    __syncwarp();  // codes were read, to the last
    if (lane_ == 0) shared_.tiles.empty[going_.stage].arrive();
    going_.next();
  }

  // What rows hold, times the factors of `group`'s tile.
  __device__ void rescale(int group) {
    if ((shared_.raised[group][0] | shared_.raised[group][1]) == 0) return;
    operands_.finish();
    each_block([&](float(&o)[32]) { held(o); });
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const float2 two = *reinterpret_cast<const float2*>(&shared_.factor[group][first_of(j)]);
      d_[2 * j] *= two.x, d_[2 * j + 1] *= two.y;
      each_block([&](float(&o)[32]) {
        o[4 * j] *= two.x, o[4 * j + 1] *= two.y, o[4 * j + 2] *= two.x, o[4 * j + 3] *= two.y;
      });
    }
  }

  // Scores become weights of this warpgroup's tile.
  __device__ void weigh(int at) {
    if (at + kCodeTokens > all_see_) mask(at);
    float top[16];
#pragma unroll
    for (int i = 0; i < 16; ++i) top[i] = fmaxf(s_[i / 2 * 4 + i % 2], s_[i / 2 * 4 + i % 2 + 2]);
    const auto larger = [](float x, float y) { return fmaxf(x, y); };
    *reinterpret_cast<float2*>(&shared_.highest[group_][warp_][folded_row()]) = fold(top, larger);
    sync_threads(kOwn + group_, 128);
    if (thread_ < kWgmmaRows) raise();
    sync_threads(kOwn + group_, 128);
    rescale(group_);
    give();
  }
  __device__ void mask(int at) {
    each_row([&](int row, int j, int e) {
      const int left = shared_.row_end[row] - at - 16 * warp_ - lane_ / 4;
      if (left <= 0) s_[4 * j + e] = -CUDART_INF_F;
      if (left <= 8) s_[4 * j + 2 + e] = -CUDART_INF_F;
    });
  }

  // Folds 16 rows' values of eight lanes (of one lane % 4) and gives each the two of folded_row().
  template <class Act>
  __device__ float2 fold(float (&x)[16], Act act) const {
    halve<8>(x, 16, act), halve<4>(x, 8, act), halve<2>(x, 4, act);
    return make_float2(x[0], x[1]);
  }
  template <int kHalf, class Act>
  __device__ void halve(float (&x)[16], int apart, Act act) const {
    const bool upper = lane_ & apart;
#pragma unroll
    for (int i = 0; i < kHalf; ++i) {
      const float keep = upper ? x[i + kHalf] : x[i], send = upper ? x[i] : x[i + kHalf];
      x[i] = act(keep, __shfl_xor_sync(~0u, send, apart));
    }
  }
  __device__ int folded_row() const {
    return first_of((lane_ / 16 & 1) * 4 + (lane_ / 8 & 1) * 2 + (lane_ / 4 & 1));
  }

  // The reference of row `thread_`.
  __device__ void raise() {
    const auto& highest = shared_.highest[group_];
    float m = fmaxf(fmaxf(highest[0][thread_], highest[1][thread_]),
                    fmaxf(highest[2][thread_], highest[3][thread_]));
    if (m != -CUDART_INF_F) m *= shared_.row[thread_].x;  // a scale is not negative
    const float before = shared_.m[thread_];
    const float after = raised(before, m);
    const float factor = exp2_approx(before - reference_of(after));
    shared_.m[thread_] = after;
    shared_.row[thread_].y = reference_of(after);
    shared_.factor[group_][thread_] = factor;
    const bool raised = __any_sync(~0u, factor != 1.0f);
    if (lane_ == 0) shared_.raised[group_][warp_] = raised;
  }

  // Weights to shared memory, [token][row], as a right operand.
  __device__ void give() {
    const int token = 16 * warp_ + lane_ % 16;
    const uint32_t to = shared_address(shared_.weights[group_]) + token * kWeightLine +
                        16 * (lane_ / 16 ^ token % 8);
#pragma unroll
    for (int pair = 0; pair < 4; ++pair) {
      uint32_t p[4];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int j = 2 * pair + i;
        const float4 two = *reinterpret_cast<const float4*>(&shared_.row[first_of(j)]);
        const auto weight = [&](int k, float scale, float reference) {
          return exp2_approx(__fmaf_rn(s_[4 * j + k], scale, -reference));
        };
        const float a0 = weight(0, two.x, two.y), a1 = weight(1, two.z, two.w);
        const float b0 = weight(2, two.x, two.y), b1 = weight(3, two.z, two.w);
        d_[2 * j] += a0 + b0, d_[2 * j + 1] += a1 + b1;
        p[2 * i] = pack<__half>(a0, a1), p[2 * i + 1] = pack<__half>(b0, b1);
      }
      store_matrix(to ^ 32 * pair, p);
    }
    fence_proxy_async();
    __syncwarp();
    if (lane_ == 0) shared_.given[group_].arrive();
  }

  // --- splits ---

  __device__ void start_split() {
    if (threadIdx.x < kWgmmaRows) shared_.m[thread_] = -CUDART_INF_F;  // who reads it first
    each_block([](float(&o)[32]) {
#pragma unroll
      for (int i = 0; i < 32; ++i) o[i] = 0;
    });
#pragma unroll
    for (int i = 0; i < 16; ++i) d_[i] = 0;
  }
  // d of all lanes, warps and warpgroups; sums[] of the split.
  __device__ void end_split() {
    operands_.finish();
    each_block([&](float(&o)[32]) { held(o); });
    const auto sum = [](float x, float y) { return x + y; };
    *reinterpret_cast<float2*>(&shared_.d[group_][warp_][folded_row()]) = fold(d_, sum);
    sync_threads(kBoth, kCodeThreads);
    if (threadIdx.x < kWgmmaRows) {
      float d = 0;
#pragma unroll
      for (int i = 0; i < 8; ++i) d += shared_.d[i / 4][i % 4][thread_];
      shared_.sums[thread_] = make_float2(shared_.m[thread_], d);
    }
    sync_threads(kBoth, kCodeThreads);
  }
  __device__ float4* scratch() const {
    return reinterpret_cast<float4*>(args_.scratch) +
           int64_t{blockIdx.x} * (kWgmmaRows * kLatentWidth / 4) + threadIdx.x;
  }

  const LatentArgs& args_;
  CodesShared& shared_;
  const int thread_;  // of the warpgroup
  const int group_;
  const int warp_;  // of the warpgroup
  const int lane_;
  const int first_row_;  // the block's first of the work's
  int all_see_ = 0;      // positions that every row sees
  uint32_t given_parity_ = 0;
  RingPlace<kCodeStages> coming_, going_;  // whose scores, whose values come next
  CodeOperands operands_;
  float d_[16];  // of this lane's tokens
  float s_[32];
  float o_[4][32];
};

// Fills the ring; asks L2 for what comes after.
__device__ inline void fill_codes(const LatentArgs& args, const CUtensorMap* map,
                                  CodesShared& shared) {
  RingPlace<kCodeStages> place;
  for (int i = first_work(args); i < last_work(args); ++i) {
    const CudaWork work = args.works[i];
    for (int at = work.kv_begin; at < work.kv_end; at += kCodeTokens) {
      shared.tiles.empty[place.stage].wait(place.parity ^ 1);
      copy_tile<CodeTile>(args, map, work, at,
                          shared_address(shared.ring) + place.stage * CodeTile::kBytes,
                          shared.tiles.full[place.stage]);
      prefetch_pages<CodeTile>(args, work, at + 2 * kCodeTokens);
      place.next();
    }
  }
}

template <class Query, DType kStored>
__global__ void __launch_bounds__(kCodeThreads + 128, 1)
    latent_codes(const __grid_constant__ LatentArgs args, const __grid_constant__ CUtensorMap map) {
#if __CUDA_ARCH__ >= 900
  extern __shared__ __align__(1024) std::byte memory[];
  auto& shared = *reinterpret_cast<CodesShared*>(memory);
  launch_dependents();
  if (threadIdx.x == 0) shared.init();
  __syncthreads();
  if (threadIdx.x >= kCodeThreads) {
    registers_give<24>();
    if (threadIdx.x < kCodeThreads + 32) fill_codes(args, &map, shared);
  } else {
    registers_take<240>();
    CodesBlock<Query, kStored> block(args, shared);
    for (int i = first_work(args); i < last_work(args); ++i) block.run(args.works[i]);
  }
#endif
}

}  // namespace ashlar::cuda
