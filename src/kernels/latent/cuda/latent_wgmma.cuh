#pragma once

// Latent attention by warpgroup products (sm_90a), 64 rows at a time; where a work has
// more, neighbouring blocks walk the same tokens together and find them in the L2 cache.
//
// Tiles of 64 tokens come in pairs. Warpgroup 0 computes the scores of the first tile of a pair,
// warpgroup 1 of the second; either then multiplies both tiles' probabilities with its half of the
// 512 columns, first its own tile's, then the other's, which it gets as registers through shared
// memory. So one warpgroup's softmax runs beside the other's products, and no sums are ever moved.
//
//   warpgroup 0                               warpgroup 1
//   S0 = Q K0                                 S1 = Q K1
//   m0 = max(m, S0), P0         -- m0, P0 ->  O = O * (m to m0) + P0 V0
//   O = O * (m to m0) + P0 V0   <- m1, P1 --  m1 = max(m0, S1), P1 beside it
//   O = O * (m0 to m1) + P1 V1                O = O * (m0 to m1) + P1 V1
//
// Queries (64 x 576) and two tiles fill shared memory; halves of a tile are filled again as soon as
// the warpgroup whose columns they are has done with them, by a third warpgroup whose four warps
// own a half each: tensor copies. P1
// lies where the second tile's rotated columns lay.

#include "kernels/attention/cuda/state.cuh"
#include "kernels/cuda/wgmma.cuh"
#include "kernels/latent/cuda/wgmma_fill.cuh"

namespace ashlar::cuda {

constexpr int kWgmmaThreads = 256;  // that multiply

// Named barriers of the two warpgroups; 0 is __syncthreads.
enum WgmmaSync { kBoth = 1, kFirst, kSecond, kOwn };

template <class Half>
class WgmmaBlock {
 public:
  __device__ WgmmaBlock(const LatentArgs& args, WgmmaShared& shared)
      : args_(args),
        shared_(shared),
        thread_(static_cast<int>(threadIdx.x) % 128),
        group_(__shfl_sync(~0u, static_cast<int>(threadIdx.x) / 128, 0)),
        row_(thread_ / 32 * 16 + thread_ % 32 / 4),
        first_row_(static_cast<int>(blockIdx.x) % args.blocks * kWgmmaRows) {}

  __device__ void run(const CudaWork& next) {
    if (threadIdx.x < sizeof(CudaWork) / 4)
      reinterpret_cast<uint32_t*>(&shared_.work)[threadIdx.x] =
          reinterpret_cast<const uint32_t*>(&next)[threadIdx.x];
    sync_threads(kBoth, kWgmmaThreads);
    const CudaWork& work = shared_.work;
    kv_end_ = work.kv_end;
    load_queries(work);
    start_rows(work);
    int state = work.state;
    int split_end = (work.kv_begin / args_.kv_split + 1) * args_.kv_split;
    bool alone = true;  // no split before this one
    start_split();
    for (int at = work.kv_begin; at < kv_end_;) {
      const bool two = at + kPairTile < kv_end_;
      group_ == 0 ? first(at, two) : second(at + kPairTile, two);
      at += 2 * kPairTile;
      if (at < kv_end_ && at < split_end) continue;
      split_end += args_.kv_split;
      sum_rows();
      if (!work.first) {
        store_state(work, state++);
      } else {
        if (!alone) add_total();
        if (at < kv_end_) put_total();
        alone = false;
      }
      if (at < kv_end_ || !work.first) start_split();
    }
    if (work.first) state >= 0 ? store_state(work, state) : store_rows(work);
    sync_threads(kBoth, kWgmmaThreads);  // the queries may go
  }

 private:
  // --- queries ---

  // Four threads a row, 18 chunks of 8 elements each.
  __device__ void load_queries(const CudaWork& work) {
    const int row = static_cast<int>(threadIdx.x) / 4, part = static_cast<int>(threadIdx.x) % 4;
    uint4 q[18] = {};
    if (first_row_ + row < work_rows(work)) {
      const WorkRow at = work_row(work, first_row_ + row);
      const auto* from = reinterpret_cast<const uint4*>(
          static_cast<const Half*>(args_.q) +
          (int64_t{work.q_begin + at.token} * args_.heads + at.head) * kLatentQ);
#pragma unroll
      for (int i = 0; i < 18; ++i) q[i] = from[part + 4 * i];
    }
    const uint32_t to = shared_address(shared_.queries);
#pragma unroll
    for (int i = 0; i < 18; ++i) {
      const int chunk = part + 4 * i;
      const uint32_t at =
          to + chunk / 8 * PairTile::kColumnBytes + PairTile::offset(row, chunk % 8);
      write_shared_16(at, q[i]);
    }
    fence_proxy_async();
    sync_threads(kBoth, kWgmmaThreads);
  }
  __device__ void start_rows(const CudaWork& work) {
    all_see_ = work.q_position + work.token_begin + 1;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int row = first_row_ + row_ + 8 * r;
      const bool used = row < work_rows(work);
      row_end_[r] = used ? work.q_position + work_row(work, row).token + 1 : kv_end_;
    }
  }

  // --- a pair of tiles ---

  __device__ std::byte* second_probs() const {
    return shared_.tiles[1] + kRopeColumn * PairTile::kColumnBytes;
  }
  __device__ uint32_t tile(int i) const { return shared_address(shared_.tiles[i]); }
  __device__ void await(int i, int column) { shared_.full[i][column].wait(parity_[i]); }
  __device__ void await_half(int i, int half) {
    each_column(half, [&](int column) { await(i, column); });
  }
  __device__ void leave(int i, int half) {
    __syncwarp();
    if (thread_ % 32 == 0) shared_.empty[i][half].arrive();
  }

  __device__ void first(int at, bool two) {
    uint32_t p[16];
    float factor[2];
    score<0>(at);
    each_row([&](int r) { factor[r] = grow(r, highest(r)); });
    weights(p);
    give(p, 0, shared_.probs);
    rescale(factor);
    add_weights();
    multiply(p, 0);
    finish(p, 0);
    parity_[0] ^= 1;
    if (!two) return;
    sync_threads(kSecond, kWgmmaThreads);
    take(p, second_probs());
    each_row([&](int r) { factor[r] = grow(r, shared_.m[1][row_ + 8 * r]); });
    rescale(factor);
    await_half(1, 0);
    multiply(p, 1);
    finish(p, 1);
    parity_[1] ^= 1;
  }

  __device__ void second(int at, bool two) {
    uint32_t p[16], other[16];
    float factor[2], most[2];
    if (two) {
      score<1>(at);
      each_row([&](int r) { most[r] = highest(r); });
    }
    sync_threads(kFirst, kWgmmaThreads);
    take(other, shared_.probs);
    each_row([&](int r) { factor[r] = grow(r, shared_.m[0][row_ + 8 * r]); });
    rescale(factor);
    await_half(0, 1);
    multiply(other, 0);
    if (two) {
      each_row([&](int r) { factor[r] = grow(r, most[r]); });
      weights(p);
      give(p, 1, second_probs());
    }
    finish(other, 0);
    parity_[0] ^= 1;
    if (!two) return;
    take(p, second_probs());  // back again: there were no registers for both
    leave(1, 0);
    rescale(factor);
    add_weights();
    multiply(p, 1);
    finish(p, 1);
    parity_[1] ^= 1;
  }

  template <class Do>
  __device__ static void each_row(Do act) {
    act(0), act(1);
  }

  // s = what tile kTile's tokens score, not scaled, -inf where not seen.
  template <int kTile>
  __device__ void score(int at) {
    if (at + kPairTile > kv_end_) {
      await_half(kTile, 0), await_half(kTile, 1);
      clear_tokens<PairTile>(tile(kTile), kv_end_ - at, thread_, 128);
      fence_proxy_async();
      sync_threads(kOwn + kTile, 128);
    }
#pragma unroll
    for (int i = 0; i < 32; ++i) s_[i] = 0;  // and be free until here
    held(s_);
    each_column(kTile, [&](int column) { score_column<kTile>(column); });  // that come first
    each_column(1 - kTile, [&](int column) { score_column<kTile>(column); });
    wgmma_commit();
    wgmma_wait<0>();
    held(s_);
    if (at + kPairTile <= all_see_) return;
#pragma unroll
    for (int i = 0; i < 32; ++i) {
      const int column = i / 4 * 8 + thread_ % 4 * 2 + i % 2;
      if (at + column >= row_end_[i / 2 % 2]) s_[i] = -CUDART_INF_F;
    }
  }
  template <int kTile>
  __device__ void score_column(int column) {
    const uint64_t q = tile_descriptor(shared_address(shared_.queries), 8 * PairTile::kLine);
    const uint64_t k = tile_descriptor(tile(kTile), 8 * PairTile::kLine);
    await(kTile, column);
    wgmma_fence();
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const uint64_t step = (column * PairTile::kColumnBytes + i * 32) >> 4;
      multiply_shared<Half>(s_, q + step, k + step, true);
    }
  }

  // The row's greatest score, scaled. A scale is not negative.
  __device__ float highest(int r) const {
    float m = -CUDART_INF_F;
#pragma unroll
    for (int i = 0; i < 8; ++i) m = fmaxf(m, fmaxf(s_[4 * i + 2 * r], s_[4 * i + 2 * r + 1]));
    m = fmaxf(m, __shfl_xor_sync(~0u, m, 1));
    m = fmaxf(m, __shfl_xor_sync(~0u, m, 2));
    return m == -CUDART_INF_F ? m : m * args_.score_scale;
  }
  // Raises the row's reference for scores up to `m`; returns the factor of what the row holds.
  __device__ float grow(int r, float m) {
    const float before = m_[r];
    m_[r] = raised(before, m);
    return exp2_approx(before - reference_of(m_[r]));
  }
  // Scores become probabilities, two and two a left operand.
  __device__ void weights(uint32_t (&p)[16]) {
    const float from[2] = {reference_of(m_[0]), reference_of(m_[1])};
    sum_[0] = sum_[1] = 0;
#pragma unroll
    for (int i = 0; i < 16; ++i) {
      const float low = exp2_approx(__fmaf_rn(s_[2 * i], args_.score_scale, -from[i % 2]));
      const float high = exp2_approx(__fmaf_rn(s_[2 * i + 1], args_.score_scale, -from[i % 2]));
      sum_[i % 2] += low + high;
      p[i] = pack<Half>(low, high);
    }
  }
  __device__ void add_weights() { d_[0] += sum_[0], d_[1] += sum_[1]; }
  __device__ void rescale(const float (&factor)[2]) {
    if (!__any_sync(~0u, factor[0] != 1.0f || factor[1] != 1.0f)) return;
    d_[0] *= factor[0], d_[1] *= factor[1];
#pragma unroll
    for (int i = 0; i < 128; ++i) o_[i] *= factor[i / 2 % 2];
  }

  // Maxima and probabilities, through shared memory: thread t of one warpgroup to thread t of the
  // other.
  __device__ void give(const uint32_t (&p)[16], int i, std::byte* to) {
    if (thread_ % 4 == 0) shared_.m[i][row_] = m_[0], shared_.m[i][row_ + 8] = m_[1];
    auto* chunks = reinterpret_cast<uint4*>(to) + thread_;
#pragma unroll
    for (int j = 0; j < 4; ++j)
      chunks[128 * j] = make_uint4(p[4 * j], p[4 * j + 1], p[4 * j + 2], p[4 * j + 3]);
    arrive_threads(i == 0 ? kFirst : kSecond, kWgmmaThreads);
  }
  __device__ static void take(uint32_t (&p)[16], const std::byte* from) {
    const auto* chunks = reinterpret_cast<const uint4*>(from) + threadIdx.x % 128;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const uint4 four = chunks[128 * j];
      p[4 * j] = four.x, p[4 * j + 1] = four.y, p[4 * j + 2] = four.z, p[4 * j + 3] = four.w;
    }
  }

  // Begins o += p V of tile i, this warpgroup's columns.
  __device__ void multiply(uint32_t (&p)[16], int i) {
    const uint64_t v = tile_descriptor(tile(i) + group_ * 4 * PairTile::kColumnBytes,
                                       8 * PairTile::kLine, PairTile::kColumnBytes);
    held(p);
    held(o_);
    wgmma_fence();
#pragma unroll
    for (int t = 0; t < 4; ++t)
      multiply_registers<Half>(o_, p + 4 * t, v + (t * 16 * PairTile::kLine >> 4), true);
    wgmma_commit();
  }
  __device__ void finish(uint32_t (&p)[16], int i) {
    wgmma_wait<0>();
    held(o_);
    held(p);
    leave(i, group_);
  }

  // --- states ---

  __device__ void start_split() {
    m_[0] = m_[1] = -CUDART_INF_F;
    d_[0] = d_[1] = 0;
#pragma unroll
    for (int i = 0; i < 128; ++i) o_[i] = 0;
  }

  // d of both warpgroups and all lanes.
  __device__ void sum_rows() {
    sync_threads(kBoth, kWgmmaThreads);  // the last split's have been read
    each_row([&](int r) {
      d_[r] += __shfl_xor_sync(~0u, d_[r], 1);
      d_[r] += __shfl_xor_sync(~0u, d_[r], 2);
      if (thread_ % 4 == 0) shared_.d[group_][row_ + 8 * r] = d_[r];
    });
    sync_threads(kBoth, kWgmmaThreads);
    each_row([&](int r) { d_[r] = shared_.d[0][row_ + 8 * r] + shared_.d[1][row_ + 8 * r]; });
  }

  // The total of the splits before lies in device memory, in the block's own scratch.
  __device__ float4* scratch() const {
    return reinterpret_cast<float4*>(args_.scratch) +
           int64_t{blockIdx.x} * (kWgmmaRows * kLatentWidth / 4) + threadIdx.x;
  }
  __device__ void put_total() {
    total_m_[0] = m_[0], total_m_[1] = m_[1], total_d_[0] = d_[0], total_d_[1] = d_[1];
    float4* to = scratch();
#pragma unroll
    for (int i = 0; i < 32; ++i)
      to[i * kWgmmaThreads] = make_float4(o_[4 * i], o_[4 * i + 1], o_[4 * i + 2], o_[4 * i + 3]);
  }
  __device__ void add_total() {
    const Fold folds[2] = {Fold(total_m_[0], m_[0]), Fold(total_m_[1], m_[1])};
    each_row([&](int r) { m_[r] = folds[r].m, d_[r] = folds[r](total_d_[r], d_[r]); });
    const float4* from = scratch();
#pragma unroll
    for (int i = 0; i < 32; ++i) {
      float4 total;
      asm volatile("ld.global.v4.f32 {%0, %1, %2, %3}, [%4];"
                   : "=f"(total.x), "=f"(total.y), "=f"(total.z), "=f"(total.w)
                   : "l"(from + i * kWgmmaThreads));
      o_[4 * i] = folds[0](total.x, o_[4 * i]);
      o_[4 * i + 1] = folds[0](total.y, o_[4 * i + 1]);
      o_[4 * i + 2] = folds[1](total.z, o_[4 * i + 2]);
      o_[4 * i + 3] = folds[1](total.w, o_[4 * i + 3]);
      if (i % 8 == 7) held(o_);  // a few at a time: there are no registers for all
    }
  }

  __device__ int first_column() const { return group_ * 256 + thread_ % 4 * 2; }

  __device__ void store_state(const CudaWork& work, int state) {
    float* to = args_.states + int64_t{state} * args_.tile_rows * kStateWidth;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int row = first_row_ + row_ + 8 * r;
      if (row >= work_rows(work)) continue;
      float* row_to = to + row * kStateWidth;
      if (group_ == 0 && thread_ % 4 == 0)
        *reinterpret_cast<float2*>(row_to) = make_float2(m_[r], d_[r]);
      auto* pairs = reinterpret_cast<float2*>(row_to + kStateHead + first_column());
#pragma unroll
      for (int i = 0; i < 32; ++i)
        pairs[4 * i] = make_float2(o_[4 * i + 2 * r], o_[4 * i + 2 * r + 1]);
    }
  }
  __device__ void store_rows(const CudaWork& work) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int row = first_row_ + row_ + 8 * r;
      if (row >= work_rows(work)) continue;
      const WorkRow at = work_row(work, row);
      const float factor = final_factor(m_[r], d_[r], -CUDART_INF_F, args_.v_scale);
      auto* pairs = reinterpret_cast<uint32_t*>(
          static_cast<Half*>(args_.out) +
          (int64_t{work.q_begin + at.token} * args_.heads + at.head) * kLatentWidth +
          first_column());
#pragma unroll
      for (int i = 0; i < 32; ++i)
        pairs[4 * i] = pack<Half>(o_[4 * i + 2 * r] * factor, o_[4 * i + 2 * r + 1] * factor);
    }
  }

  const LatentArgs& args_;
  WgmmaShared& shared_;
  const int thread_;  // of the warpgroup
  const int group_;
  const int row_;        // and row_ + 8, of the block's
  const int first_row_;  // the block's first of the work's
  int kv_end_ = 0;
  int all_see_ = 0;  // positions that every row sees
  int row_end_[2] = {};
  uint32_t parity_[2] = {};
  float sum_[2];  // of the last probabilities
  float m_[2], d_[2], total_m_[2], total_d_[2];
  float s_[32];   // rows by the tile's 64 tokens
  float o_[128];  // rows by 256 columns
};

template <class Half>
__global__ void __launch_bounds__(kWgmmaThreads + 128, 1)
    latent_wgmma(const __grid_constant__ LatentArgs args, const __grid_constant__ CUtensorMap map) {
#if __CUDA_ARCH__ >= 900
  extern __shared__ __align__(1024) std::byte memory[];
  auto& shared = *reinterpret_cast<WgmmaShared*>(memory);
  launch_dependents();
  if (threadIdx.x == 0) shared.init();
  __syncthreads();
  if (threadIdx.x >= kWgmmaThreads) {
    registers_give<40>();
    fill_copied(args, &map, shared);
  } else {
    registers_take<232>();
    WgmmaBlock<Half> block(args, shared);
    for (int i = first_work(args); i < last_work(args); ++i) block.run(args.works[i]);
  }
#endif
}

}  // namespace ashlar::cuda
