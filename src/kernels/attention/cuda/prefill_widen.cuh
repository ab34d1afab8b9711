#pragma once

// The loading side of prefill for FP8 pages: a warpgroup reads codes from the pages, makes f16 of
// them and writes those where the products want them.
//
// A tile of K and the tile of V before it are one round of loads, 16 codes a thread each. Loads pass
// through a ring in shared memory of which every thread has its own part, so that kStaged of them
// are always on their way and nobody waits for another thread.

#include "kernels/attention/cuda/prefill_load.cuh"
#include "kernels/cuda/f8.cuh"

namespace ashlar::cuda {

template <class P>
class WideningLoader {
 public:
  __device__ WideningLoader(PrefillShared<P>& shared, const PrefillParams& p)
      : s_(shared), p_(p), thread_(threadIdx.x % kWarpgroup) {}

  __device__ void run(const CUtensorMap& q) {
    WorkLoader<P> works(s_, p_, q);
    const bool leads = thread_ == 0;
    if (leads) works.begin();
    while (true) {
      if (leads && !works.take(s_.loaded)) s_.loaded = {};
      sync_threads(kLoadBarrier, kWarpgroup);
      const PrefillWork at = s_.loaded;
      sync_threads(kLoadBarrier, kWarpgroup);
      if (at.work.n_heads == 0) break;
      begin_ = at.work.kv_begin, end_ = at.work.kv_end, pages_ = at.seq.pages;
      kv_head_ = at.work.head_begin / (p_.shape.heads / p_.shape.kv_heads);
      load([&] {
        if (leads) works.start(at);
        __syncwarp();
      });
    }
    if (leads) works.finish();
  }

 private:
  static constexpr int kCodes = 16;  // of a load
  static constexpr int kKLoads = P::kKWidth * P::kKv / kCodes / kWarpgroup;
  static constexpr int kVLoads = P::kVWidth * P::kKv / kCodes / kWarpgroup;
  static constexpr int kLoads = kKLoads + kVLoads;
  static constexpr int kAhead = P::kStaged;
  static constexpr int kRun = 16;  // tokens that lie together in any page

  static_assert(kAhead <= kLoads && (kAhead & (kAhead - 1)) == 0 && P::kKv / kRun * 2 <= kWarp);

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
    if (token >= end_ || token + kRun <= begin_ || lane >= 2 * kRuns) return runs;
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
  __device__ void ask(const Runs& runs, int first_lane, int i, int32_t dim) {
    const Place at = place<kWidth>(i);
    const auto base = reinterpret_cast<const std::byte*>(
        __shfl_sync(~0u, reinterpret_cast<uintptr_t>(runs.run), first_lane + at.row / kRun));
    const int32_t token = runs.token + at.row;
    const bool valid =
        base != nullptr && token >= begin_ && token < end_ && at.piece * kCodes < dim;
    const std::byte* from = base + at.row % kRun * dim + at.piece * kCodes;
    copy_async_16(shared_address(staged()), valid ? from : p_.k, valid);
    copy_async_commit();
    ++n_asked_;
  }
  // Load `i` of a round: of one tile's K, then of the tile before's V.
  __device__ void ask_round(const Runs& k, const Runs& v, int i) {
    if (i < kKLoads) ask<P::kKWidth>(k, 0, i, p_.shape.k_dim);
    if (i >= kKLoads) ask<P::kVWidth>(v, P::kKv / kRun, i - kKLoads, p_.shape.v_dim);
  }
  // This thread's part of the ring: of the load it asks for next, which is also the oldest.
  __device__ uint4* staged() {
    return reinterpret_cast<uint4*>(s_.staged) + n_asked_ % kAhead * kWarpgroup + thread_;
  }

  __device__ uint4 read_staged() {
    uint4 r;  // read before what takes its place is asked for
    asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r.x), "=r"(r.y), "=r"(r.z), "=r"(r.w)
                 : "r"(shared_address(staged()))
                 : "memory");
    return r;
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

  // Load `i` of a round has come; `k` and `v` say whether the round has those.
  __device__ void write_round(const uint4& codes, int i, bool k, bool v) {
    if (i == 0 && k) s_.k_empty[k_.slot].wait(k_.parity ^ 1);
    if (i == kKLoads && v) s_.v_empty[v_.slot].wait(v_.parity ^ 1);
    if (i < kKLoads && k) write<P::kKWidth>(codes, s_.k[k_.slot], i);
    if (i >= kKLoads && v) write<P::kVWidth>(codes, s_.v[v_.slot], i - kKLoads);
    if (i == kKLoads - 1 && k) {
      filled(s_.k_full[k_.slot]);
      k_.step();
    }
    if (i == kLoads - 1 && v) {
      filled(s_.v_full[v_.slot]);
      v_.step();
    }
  }

  // A work's rounds: the first has no V, the last no K. `start` announces the work.
  template <class Start>
  __device__ void load(Start start) {
    const int32_t first = begin_ / P::kKv, end = (end_ + P::kKv - 1) / P::kKv;
    Runs v, k = find(first);
#pragma unroll
    for (int i = 0; i < kAhead; ++i) ask_round(k, v, i);
    start();
    for (int32_t tile = first; tile <= end; ++tile) {  // of K; V's is the one before
      const Runs next = find(tile + 1);
#pragma unroll
      for (int i = 0; i < kLoads; ++i) {
        asm volatile("" : "+r"(thread_));  // what follows from it is made again, not kept
        copy_async_wait<kAhead - 1>();
        write_round(read_staged(), i, tile < end, tile > first);
        if (i + kAhead < kLoads) ask_round(k, v, i + kAhead);
        if (i + kAhead >= kLoads) ask_round(next, k, i + kAhead - kLoads);
      }
      v = k;
      k = next;
    }
    copy_async_wait<0>();
  }

  PrefillShared<P>& s_;
  const PrefillParams& p_;
  int thread_;
  uint32_t n_asked_ = 0;
  int32_t begin_ = 0, end_ = 0, kv_head_ = 0;  // of the work
  const uint32_t* pages_ = nullptr;
  Ring<P::kStages> k_, v_;
};

}  // namespace ashlar::cuda
