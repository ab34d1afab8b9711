#pragma once

// The loading side of prefill for FP8 pages: a warpgroup reads codes from the pages, makes f16 of
// them and writes those where the products want them.
//
// A load is 16 codes a thread: 32 tokens of one chunk of columns. A tile of K and the tile of V
// before it are one round of loads. They pass through a ring in shared memory of which every thread
// has its own part, so that most of the ring is always on its way and no thread waits for another.

#include "kernels/attention/cuda/prefill_load.cuh"
#include "kernels/cuda/f8.cuh"

namespace ashlar::cuda {

template <class P>
class WideningLoader {
 public:
  __device__ WideningLoader(PrefillShared<P>& shared, const PrefillParams& p) : s_(shared), p_(p) {
    const int row = thread_ / 4, piece = thread_ % 4;
    run_row_ = row % kRun;
    // Of the two 16-byte pieces that come of a load, the first; the other is at this ^ 16. Eight
    // lanes, two rows of four, never meet in a bank.
    const int place = (2 * piece) ^ (row % kAtomRows);
    k_place_ =
        row / kAtomRows * P::kKChunks * kAtomBytes + row % kAtomRows * kChunkBytes + place * 16;
    v_place_ =
        row / kAtomRows * P::kVChunks * kAtomBytes + row % kAtomRows * kChunkBytes + place * 16;
  }

  __device__ void run(const CUtensorMap& q) {
    WorkLoader<P> works(s_, p_, q);
    WorkListener<P, true> listener;
    const bool leads = thread_ == 0;
    if (leads) works.begin();
    PrefillWork at;
    while (true) {
      if (leads) works.tell(at);
      __syncwarp();
      if (!listener.hear(s_, at)) return;
      begin_ = at.work.kv_begin, end_ = at.work.kv_end, pages_ = at.seq.pages;
      const int kv_head = at.work.head_begin / (p_.shape.heads / p_.shape.kv_heads);
      head_row_ = kv_head * p_.page_tokens;
      load([&] {
        if (leads) works.load_q(at);
        __syncwarp();
      });
    }
  }

 private:
  static constexpr int kCodes = 16;  // of a load
  static constexpr int kLoadTokens = 32;
  static constexpr int kBlocks = P::kKv / kLoadTokens;
  static constexpr int kKLoads = kBlocks * P::kKChunks;
  static constexpr int kVLoads = kBlocks * P::kVChunks;
  static constexpr int kLoads = kKLoads + kVLoads;
  static constexpr int kTogether = 2;  // loads asked for and awaited together
  static constexpr int kAhead = P::kStaged;
  static constexpr int kFind = kLoads - kAhead - kTogether;  // when the next tile is looked up
  static constexpr int kRun = 16;  // tokens that lie together in any page, and their bytes
                                   // are whole granules

  static_assert(kAhead < kLoads && kFind % kTogether == 0 && (kAhead & (kAhead - 1)) == 0);
  static_assert(kLoads % kTogether == 0 && kKLoads % kTogether == 0 && kAhead % kTogether == 0);

  // Where this warp's runs of a tile's tokens lie, in granules: one of each block of 32 tokens.
  struct Runs {
    uint32_t k[kBlocks] = {};
    uint32_t v[kBlocks] = {};
    int32_t token = 0;  // this thread's in the first block
  };

  __device__ Runs find(int32_t tile) const {
    Runs runs{.token = tile * P::kKv + thread_ / 4};
#pragma unroll
    for (int i = 0; i < kBlocks; ++i) {
      const int32_t token = (runs.token + i * kLoadTokens) / kRun * kRun;
      if (token >= end_ || token + kRun <= begin_) continue;
      const uint32_t granule = __ldg(pages_ + token / p_.page_tokens);
      const uint32_t row = (head_row_ + token % p_.page_tokens) / kRun;  // in runs
      runs.k[i] = granule + row * (kRun * p_.shape.k_dim / static_cast<int>(kGranuleBytes));
      runs.v[i] = granule + row * (kRun * p_.shape.v_dim / static_cast<int>(kGranuleBytes));
    }
    return runs;
  }

  // Asks for load `i` of a round: of one tile's K, then of the tile before's V.
  __device__ void ask(const Runs& k, const Runs& v, int i) {
    const bool is_k = i < kKLoads;
    const int n = is_k ? i : i - kKLoads, chunks = is_k ? P::kKChunks : P::kVChunks;
    const Runs& runs = is_k ? k : v;
    const int32_t dim = is_k ? p_.shape.k_dim : p_.shape.v_dim;
    const int32_t column = n % chunks * kChunk + thread_ % 4 * kCodes;
    const uint32_t token = runs.token + n / chunks * kLoadTokens - begin_;
    const bool valid = token < static_cast<uint32_t>(end_ - begin_) && column < dim;
    const std::byte* from = (is_k ? p_.k : p_.v) +
                            (is_k ? runs.k : runs.v)[n / chunks] * kGranuleBytes +
                            (run_row_ * dim + column);
    copy_async_16(staged(0), valid ? from : p_.k, valid);
    ++n_asked_;
  }

  // This thread's part of the ring: of the load it asks for `n` loads later, which is also the
  // n-th oldest.
  __device__ uint32_t staged(int n) const {
    return shared_address(s_.staged) + ((n_asked_ + n) % kAhead * kWarpgroup + thread_) * 16;
  }

  __device__ static void write(const uint4& codes, uint32_t to) {
    uint32_t w[8];
    widen_f8<P::kStored>(codes.x, w[0], w[1]);
    widen_f8<P::kStored>(codes.y, w[2], w[3]);
    widen_f8<P::kStored>(codes.z, w[4], w[5]);
    widen_f8<P::kStored>(codes.w, w[6], w[7]);
    write_shared_16(to, {w[0], w[1], w[2], w[3]});
    write_shared_16(to ^ 16, {w[4], w[5], w[6], w[7]});
  }

  // Load `i` of a round has come.
  __device__ void write_round(const uint4& codes, int i) const {
    const bool is_k = i < kKLoads;
    const int n = is_k ? i : i - kKLoads, chunks = is_k ? P::kKChunks : P::kVChunks;
    const int atom = n / chunks * (kLoadTokens / kAtomRows) * chunks + n % chunks;
    const uint32_t tile =
        is_k ? shared_address(s_.k[k_.slot]) + k_place_ : shared_address(s_.v[v_.slot]) + v_place_;
    write(codes, tile + atom * kAtomBytes);
  }

  __device__ static void filled(Barrier& full) {
    fence_proxy_async();
    __syncwarp();
    if (threadIdx.x % kWarp == 0) full.arrive();
  }

  // What comes before and after load `i` of a round that has K and V as told.
  __device__ void before(int i, bool k, bool v) {
    if (i == 0 && k) s_.k_empty[k_.slot].wait(k_.parity ^ 1);
    if (i == kKLoads && v) s_.v_empty[v_.slot].wait(v_.parity ^ 1);
  }
  __device__ void after(int i, bool k, bool v) {
    if (i == kKLoads - kTogether && k) {
      filled(s_.k_full[k_.slot]);
      k_.step();
    }
    if (i == kLoads - kTogether && v) {
      filled(s_.v_full[v_.slot]);
      v_.step();
    }
  }

  // A work's rounds: the first has no V, the last no K. Queries come after the
  // first K, which need not wait for the work before to be done with its own.
  template <class LoadQ>
  __device__ void load(LoadQ load_q) {
    const int32_t first = begin_ / P::kKv, end = (end_ + P::kKv - 1) / P::kKv;
    Runs v, k = find(first);
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      ask(k, v, i);
      if (i % kTogether == kTogether - 1) copy_async_commit();
    }
    for (int32_t tile = first; tile <= end; ++tile) {  // of K; V's is the one before
      const bool has_k = tile<end, has_v = tile> first;
      Runs next;
#pragma unroll
      for (int i = 0; i < kLoads; i += kTogether) {
        if (i == kFind) next = find(tile + 1);
        copy_async_wait<kAhead / kTogether - 1>();
        before(i, has_k, has_v);
        uint4 codes[kTogether];
#pragma unroll
        for (int n = 0; n < kTogether; ++n) codes[n] = read_shared_16(staged(n));
        if (i < kKLoads ? has_k : has_v) {
#pragma unroll
          for (int n = 0; n < kTogether; ++n) write_round(codes[n], i + n);
        }
        after(i, has_k, has_v);
        if (i == kKLoads - kTogether && !has_v) load_q();
#pragma unroll
        for (int n = i + kAhead; n < i + kAhead + kTogether; ++n)
          n < kLoads ? ask(k, v, n) : ask(next, k, n - kLoads);
        copy_async_commit();
      }
      v = k;
      k = next;
    }
    copy_async_wait<0>();
  }

  PrefillShared<P>& s_;
  const PrefillParams& p_;
  const int thread_ = threadIdx.x % kWarpgroup;
  int run_row_, k_place_, v_place_;
  int32_t begin_ = 0, end_ = 0, head_row_ = 0;  // of the work
  const uint32_t* pages_ = nullptr;
  uint32_t n_asked_ = 0;
  Ring<P::kStages> k_, v_;
};

}  // namespace ashlar::cuda
