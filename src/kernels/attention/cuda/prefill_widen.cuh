#pragma once

// The loading side of prefill for FP8 pages: a warpgroup reads codes from the pages, makes f16 of
// them and writes those where the products want them.
//
// A tile of K and the tile of V before it are one round of loads, 16 codes a thread each. Half a
// round is always on its way in registers: as one load is turned into f16, another is asked for.

#include "kernels/attention/cuda/prefill_load.cuh"
#include "kernels/cuda/f8.cuh"

namespace ashlar::cuda {

template <class P>
class WideningLoader {
 public:
  __device__ WideningLoader(PrefillShared<P>& shared, const PrefillParams& p, const CUtensorMap& q)
      : s_(shared), p_(p), works_(shared, p, q), thread_(threadIdx.x % kWarpgroup) {}

  __device__ void run() {
    const bool leads = thread_ < kWarp;
    int32_t next = leads ? works_.take() : 0;
    while (true) {
      if (thread_ == 0) s_.taken = next;
      sync_threads(kLoadBarrier, kWarpgroup);
      const int32_t index = s_.taken;
      sync_threads(kLoadBarrier, kWarpgroup);
      if (index >= p_.n_works) break;
      if (leads) next = works_.take();
      PrefillWork at{.work = p_.works[index]};
      at.seq = p_.seqs[at.work.seq];
      load(at, leads);
    }
    if (leads) works_.finish();
  }

 private:
  static constexpr int kCodes = 16;  // of a load
  static constexpr int kKLoads = P::kKWidth * P::kKv / kCodes / kWarpgroup;
  static constexpr int kVLoads = P::kVWidth * P::kKv / kCodes / kWarpgroup;
  static constexpr int kLoads = kKLoads + kVLoads;
  static constexpr int kAhead = kLoads / 2;
  static constexpr int kRun = 16;  // tokens that lie together in any page

  static_assert(kLoads % 2 == 0 && P::kKv / kRun * 2 <= kWarp);

  // Where a tile's runs of tokens lie, one known to each lane: K's runs, then V's.
  struct Runs {
    const std::byte* run = nullptr;  // null: nobody sees any of it
    int32_t token = 0;               // first of the tile
  };

  __device__ Runs find(int32_t tile) const {
    constexpr int kRuns = P::kKv / kRun;
    const int lane = threadIdx.x % kWarp;
    Runs runs{.token = tile * P::kKv};
    const int32_t token = runs.token + lane % kRuns * kRun;
    if (token >= kv_end_ || token + kRun <= kv_begin_ || lane >= 2 * kRuns) return runs;
    const int64_t granule = __ldg(pages_ + token / p_.page_tokens);
    const int64_t row = int64_t{kv_head_} * p_.page_tokens + token % p_.page_tokens;
    runs.run = (lane < kRuns ? p_.k + row * p_.shape.k_dim : p_.v + row * p_.shape.v_dim) +
               granule * kGranuleBytes;
    return runs;
  }

  // Row and piece of 16 columns that this thread has in load `i` of a tile.
  struct Place {
    int row;
    int piece;
  };
  template <int kWidth>
  __device__ Place place(int i) const {
    constexpr int kPieces = kWidth / kCodes;
    constexpr int kPeriod = kPieces % 3 == 0 ? 3 : 1;  // loads after which pieces are the same
    static_assert(kPeriod * kWarpgroup % kPieces == 0);
    const int at = i % kPeriod * kWarpgroup + thread_;
    return {.row = i / kPeriod * (kPeriod * kWarpgroup / kPieces) + at / kPieces,
            .piece = at % kPieces};
  }

  template <int kWidth>
  __device__ uint4 ask(const Runs& runs, int first_lane, int i, int32_t dim) const {
    const Place at = place<kWidth>(i);
    const auto base = reinterpret_cast<const std::byte*>(
        __shfl_sync(~0u, reinterpret_cast<uintptr_t>(runs.run), first_lane + at.row / kRun));
    const int32_t token = runs.token + at.row;
    if (base == nullptr || token < kv_begin_ || token >= kv_end_ || at.piece * kCodes >= dim)
      return {0, 0, 0, 0};
    return __ldg(reinterpret_cast<const uint4*>(base + at.row % kRun * dim + at.piece * kCodes));
  }
  // Load `i` of a round: of the next tile's K, then of this tile's V.
  __device__ uint4 ask_round(const Runs& k, const Runs& v, int i) const {
    if (i < kKLoads) return ask<P::kKWidth>(k, 0, i, p_.shape.k_dim);
    return ask<P::kVWidth>(v, P::kKv / kRun, i - kKLoads, p_.shape.v_dim);
  }

  // Lanes of odd chunks write their halves the other way round: no two then meet in a bank.
  template <int kWidth>
  __device__ void write(const uint4& codes, uint8_t* tile, int i) const {
    const Place at = place<kWidth>(i);
    uint32_t w[8];
    widen_f8<P::kStored>(codes.x, w[0], w[1]);
    widen_f8<P::kStored>(codes.y, w[2], w[3]);
    widen_f8<P::kStored>(codes.z, w[4], w[5]);
    widen_f8<P::kStored>(codes.w, w[6], w[7]);
    const int chunk = at.piece / 4, odd = chunk % 2;
    uint8_t* row = tile + (chunk * P::kKv + at.row) * kChunkBytes;
    const int first = (at.piece % 4 * 2 + odd) ^ (at.row % 8);
    *reinterpret_cast<uint4*>(row + first * 16) =
        odd ? make_uint4(w[4], w[5], w[6], w[7]) : make_uint4(w[0], w[1], w[2], w[3]);
    *reinterpret_cast<uint4*>(row + (first ^ 1) * 16) =
        odd ? make_uint4(w[0], w[1], w[2], w[3]) : make_uint4(w[4], w[5], w[6], w[7]);
  }

  __device__ static void filled(Barrier& full) {
    fence_proxy_async();
    __syncwarp();
    if (threadIdx.x % kWarp == 0) full.arrive();
  }

  __device__ void load(const PrefillWork& at, bool leads) {
    kv_begin_ = at.work.kv_begin, kv_end_ = at.work.kv_end, pages_ = at.seq.pages;
    kv_head_ = at.work.head_begin / (p_.shape.heads / p_.shape.kv_heads);
    const int32_t first = kv_begin_ / P::kKv;
    const int32_t end = (kv_end_ + P::kKv - 1) / P::kKv;
    Runs now, next = find(first);  // the tiles of a round's V and K; the round before the first
    uint4 codes[kAhead];           // tile has no V
#pragma unroll
    for (int i = 0; i < kAhead; ++i) codes[i] = ask_round(next, now, i);
    if (leads) works_.start(at);
    for (int32_t tile = first - 1; tile < end; ++tile) {
      asm volatile("" : "+r"(thread_));  // what follows from it is made again, not kept
      const Runs after = find(tile + 2);
      if (tile + 1 < end) s_.k_empty[k_.slot].wait(k_.parity ^ 1);
#pragma unroll
      for (int i = 0; i < kLoads; ++i) {
        if (i == kKLoads) {
          if (tile + 1 < end) {
            filled(s_.k_full[k_.slot]);
            k_.step();
          }
          if (tile >= first) s_.v_empty[v_.slot].wait(v_.parity ^ 1);
        }
        uint4& held = codes[i % kAhead];
        if (i < kKLoads) {
          if (tile + 1 < end) write<P::kKWidth>(held, s_.k[k_.slot], i);
        } else {
          if (tile >= first) write<P::kVWidth>(held, s_.v[v_.slot], i - kKLoads);
        }
        held = i < kAhead ? ask_round(next, now, i + kAhead) : ask_round(after, next, i - kAhead);
      }
      if (tile >= first) {
        filled(s_.v_full[v_.slot]);
        v_.step();
      }
      now = next;
      next = after;
    }
  }

  PrefillShared<P>& s_;
  const PrefillParams& p_;
  WorkLoader<P> works_;
  int thread_;
  int32_t kv_begin_ = 0, kv_end_ = 0, kv_head_ = 0;
  const uint32_t* pages_ = nullptr;
  Ring<P::kStages> k_, v_;
};

}  // namespace ashlar::cuda
