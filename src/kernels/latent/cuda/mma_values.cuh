#pragma once

// The team of the mma body that adds values up: a warp has 64 of the 512 columns, read transposed
// from the bytes that were keys; and what becomes of a split's sums.

#include "kernels/latent/cuda/mma_hand.cuh"

namespace ashlar::cuda {

template <class Query, DType kStored>
class ValueTeam {
  using Type = MmaType<Query, kStored>;
  using Half = typename Type::Half;
  using Tile = typename Type::Tile;
  static constexpr int kTokens = Tile::kTokens;

 public:
  __device__ ValueTeam(const LatentArgs& args, uint32_t ring, MmaShared<Type>& shared)
      : args_(args),
        shared_(shared),
        ring_(ring, shared.ring),
        warp_(static_cast<int>(threadIdx.x) / 32),
        lane_(static_cast<int>(threadIdx.x) % 32) {}

  __device__ void run(const CudaWork work) {
    int state = work.state, split = work.kv_begin / args_.kv_split;
    bool continues = !work.first && split % args_.group > 0;
    bool alone = true;  // no group before this one
    start(split_), start(group_);
    for (int position = work.kv_begin; position < work.kv_end;) {
      const int left = work.kv_end - position;
      position += kTokens;
      const bool ends = left <= kTokens;
      const bool split_ends = ends || position == (split + 1) * args_.kv_split;
      add_tile(left, split_ends);
      if (!split_ends) continue;
      const bool group_ends = ++split % args_.group == 0;
      if (!continues) {
        add(group_, split_);
        split_ = group_;
        if (work.first && (group_ends || (ends && state < 0))) add_group(alone), alone = false;
        if (group_ends) start(group_);
      }
      if (continues || (!work.first && (group_ends || ends)))
        store_state(work, state++, split_, continues);
      if (group_ends) continues = false;
      start(split_);
    }
    if (work.first) finish(work, state, alone, split % args_.group > 0);
  }

 private:
  // Of rows lane / 4 and + 8, and 64 columns.
  struct Sums {
    float m[2], d[2];
    float o[8][4];
  };

  // --- one tile ---

  __device__ void add_tile(int left, bool last) {
    const uint32_t tile = ring_.await() + warp_ / Type::kLineParts * Tile::kColumnBytes;
    if (left < kTokens) clear_lines(tile, left);
    await_phase(shared_.given[hand_.stage], hand_.parity);
    const auto& hand = shared_.hands[hand_.stage];
    scale_values(hand);
    weigh(tile, shared_address(&hand.probs[lane_ % 16][lane_ / 16 * 8]));
#pragma unroll
    for (int r = 0; last && r < 2; ++r)
      split_.m[r] = hand.m[lane_ / 4 + 8 * r], split_.d[r] = hand.d[lane_ / 4 + 8 * r];
    ring_.leave();  // and everybody has read the hand
    if (lane_ == 0) shared_.taken[hand_.stage].arrive();
    hand_.next();
  }
  // Of the warp's columns in their line.
  __device__ int first_chunk() const { return warp_ % Type::kLineParts * Type::kChunks; }

  // Zeros for the warp's columns of tokens beyond the last: what must not be seen may be NaN.
  __device__ void clear_lines(uint32_t column, int begin) {
    for (int i = lane_; i < (kTokens - begin) * Type::kChunks; i += 32) {
      const int token = begin + i / Type::kChunks, chunk = first_chunk() + i % Type::kChunks;
      write_shared_16(column + Tile::offset(token, chunk), make_uint4(0, 0, 0, 0));
    }
    if constexpr (kHopper) fence_proxy_async();
    __syncwarp();
  }

  __device__ void scale_values(const Hand<kTokens>& hand) {
    const float low = hand.factor[lane_ / 4], high = hand.factor[lane_ / 4 + 8];
    if (!__any_sync(~0u, low != 1.0f || high != 1.0f)) return;
#pragma unroll
    for (int n = 0; n < 8; ++n)
      split_.o[n][0] *= low, split_.o[n][1] *= low, split_.o[n][2] *= high, split_.o[n][3] *= high;
  }

  __device__ void weigh(uint32_t column, uint32_t probs) {
    constexpr int kAcross = Type::kChunks / 2;  // pairs of chunks in 64 columns
    constexpr int kWeighSteps = kTokens / 16 * kAcross;
    const uint32_t values = column + Tile::offset(lane_ % 16, first_chunk() + lane_ / 16);
    const auto load = [&](uint32_t(&v)[4], int i) {
      load_matrix_transposed(v, (values ^ i % kAcross * 32) + i / kAcross * 16 * Tile::kLine);
    };
    uint32_t p[4], v[2][4];
    load(v[0], 0);
#pragma unroll
    for (int i = 0; i < kWeighSteps; ++i) {
      if (i % kAcross == 0) load_matrix(p, probs + i / kAcross * 32);
      if (i + 1 < kWeighSteps) load(v[(i + 1) % 2], i + 1);  // on its way beside products
      weigh_pair(i % kAcross, p, v[i % 2]);
    }
  }
  // Two chunks of 16 tokens: v[0], v[1] are the first chunk's tokens, v[2], v[3] the second's.
  __device__ void weigh_pair(int j, const uint32_t (&p)[4], const uint32_t (&v)[4]) {
    if constexpr (!Type::kF8) {
      mma<Half>(split_.o[2 * j], p, v[0], v[1]);
      mma<Half>(split_.o[2 * j + 1], p, v[2], v[3]);
    } else {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        uint32_t even0, odd0, even1, odd1;
        split_f8<kStored>(v[2 * i], even0, odd0);
        split_f8<kStored>(v[2 * i + 1], even1, odd1);
        mma<Half>(split_.o[4 * j + 2 * i], p, even0, even1);
        mma<Half>(split_.o[4 * j + 2 * i + 1], p, odd0, odd1);
      }
    }
  }

  // --- sums ---

  __device__ static void start(Sums& sums) {
#pragma unroll
    for (int r = 0; r < 2; ++r) sums.m[r] = -CUDART_INF_F, sums.d[r] = 0;
#pragma unroll
    for (int n = 0; n < 8; ++n) sums.o[n][0] = sums.o[n][1] = sums.o[n][2] = sums.o[n][3] = 0;
  }
  __device__ static void add(Sums& there, const Sums& comes) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const Fold fold(there.m[r], comes.m[r]);
      there.m[r] = fold.m;
      there.d[r] = fold(there.d[r], comes.d[r]);
#pragma unroll
      for (int n = 0; n < 8; ++n) {
        there.o[n][2 * r] = fold(there.o[n][2 * r], comes.o[n][2 * r]);
        there.o[n][2 * r + 1] = fold(there.o[n][2 * r + 1], comes.o[n][2 * r + 1]);
      }
    }
  }

  // The total of groups lies in shared memory.
  __device__ void put_total(const Sums& sums) {
    total()[8 * kTeamThreads] = {sums.m[0], sums.m[1], sums.d[0], sums.d[1]};
#pragma unroll
    for (int n = 0; n < 8; ++n)
      total()[n * kTeamThreads] = {sums.o[n][0], sums.o[n][1], sums.o[n][2], sums.o[n][3]};
  }
  __device__ void get_total(Sums& sums) const {
    const float4 head = total()[8 * kTeamThreads];
    sums.m[0] = head.x, sums.m[1] = head.y, sums.d[0] = head.z, sums.d[1] = head.w;
#pragma unroll
    for (int n = 0; n < 8; ++n) {
      const float4 o = total()[n * kTeamThreads];
      sums.o[n][0] = o.x, sums.o[n][1] = o.y, sums.o[n][2] = o.z, sums.o[n][3] = o.w;
    }
  }
  __device__ float4* total() const { return &shared_.total[0][threadIdx.x]; }
  __device__ void add_group(bool alone) {
    if (!alone) {
      get_total(split_);  // which has been added
      add(split_, group_);
    }
    put_total(split_);
  }

  // What a work that holds the rows' first split leaves.
  __device__ void finish(const CudaWork& work, int state, bool alone, bool partial) {
    if (!alone) get_total(split_);
    if (state < 0) return store_rows(work, split_);
#pragma unroll 1
    for (bool total = !alone; total || partial; total = false) {
      if (!total) split_ = group_, partial = false;
      store_state(work, state++, split_);
    }
  }

  __device__ void store_rows(const CudaWork& work, const Sums& sums) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int row = lane_ / 4 + 8 * r;
      if (row >= work_rows(work)) continue;
      const WorkRow at = work_row(work, row);
      Query* out = static_cast<Query*>(args_.out) +
                   (int64_t{work.q_begin + at.token} * args_.heads + at.head) * kLatentWidth;
      const float scale = final_factor(sums.m[r], sums.d[r], -CUDART_INF_F, args_.v_scale);
      each_column_pair(sums.o, r, [&](int column, float x, float y) {
        *reinterpret_cast<uint32_t*>(out + column) = pack<Query>(x * scale, y * scale);
      });
    }
  }

  __device__ void store_state(const CudaWork& work, int state, const Sums& sums,
                              bool continues = false) {
    float* to = args_.states + int64_t{state} * args_.tile_rows * kStateWidth;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int row = lane_ / 4 + 8 * r;
      if (row >= work_rows(work)) continue;
      float* row_to = to + row * kStateWidth;
      if (warp_ == 0 && lane_ % 4 == 0)
        *reinterpret_cast<float2*>(row_to) = {sums.m[r], continues ? -sums.d[r] : sums.d[r]};
      each_column_pair(sums.o, r, [&](int column, float x, float y) {
        *reinterpret_cast<float2*>(row_to + kStateHead + column) = {x, y};
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
  MmaShared<Type>& shared_;
  RingReader<Tile, Type::kStages> ring_;
  RingPlace<kMmaHands> hand_;
  const int warp_;
  const int lane_;
  Sums split_, group_;
};

}  // namespace ashlar::cuda
