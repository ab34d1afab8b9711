#pragma once

// The loading side of prefill for FP8 pages: warpgroups read codes from the pages, make f16 of
// them and write those where the products want them.
//
// A load is 16 codes a thread: four threads for each token of one chunk of columns. A tile of K and
// the tile of V before it are one round of loads. They pass through a ring in shared memory of
// which every thread has its own part, so that most of the ring is always on its way and no thread
// waits for another. Loads are asked for and awaited in steps.

#include "kernels/attention/cuda/prefill_load.cuh"
#include "kernels/cuda/f8.cuh"

namespace ashlar::cuda {

template <class P>
class WideningLoader {
 public:
  __device__ WideningLoader(PrefillShared<P>& shared, const PrefillParams& p) : s_(shared), p_(p) {
    // Of the two 16-byte pieces that come of a load, the first; the other is at this ^ 16. Eight
    // lanes, two rows of four, never meet in a bank.
    const int row = thread_ / 4, piece = thread_ % 4;
    place_ = row * kChunkBytes + ((2 * piece) ^ (row % kAtomRows)) * 16;
    staged_ = shared_address(s_.staged) + thread_ * kCodes;
  }

  __device__ void run(const CUtensorMap& q) {
    WorkLoader<P> works(s_, p_, q);
    WorkListener<P> listener;
    const bool leads = thread_ == 0;
    PrefillWork at;
    if (leads) {
      works.begin();
      works.tell(at);
    }
    __syncwarp();
    while (listener.hear(s_, at)) {
      start(at);
      load([&] {
        PrefillWork next;
        if (leads) {
          works.load_q(at);
          works.tell(next);
        }
        __syncwarp();
      });
    }
  }

 private:
  static constexpr int kCodes = 16;  // of a load, and their bytes
  static constexpr int kLoadTokens = P::kLoadThreads / 4;
  static constexpr int kBlocks = P::kKv / kLoadTokens;
  static constexpr int kKLoads = kBlocks * P::kKChunks;
  static constexpr int kLoads = kKLoads + kBlocks * P::kVChunks;
  static constexpr int kStep = kKLoads % 2 == 0 ? 2 : 1;
  static constexpr int kAhead = P::kStaged;
  static constexpr int kFind = kLoads - kAhead - kStep;  // when the next tile is looked up
  static constexpr int kRun = 16;                        // tokens that lie together in any page
  static constexpr int kWarpTokens = kWarp / 4;          // of a block
  static constexpr uint32_t kLoadBytes = P::kLoadThreads * kCodes;

  static_assert(!P::kTokenScales || 2 * kBlocks * kWarpTokens <= kWarp);
  static_assert(kAhead < kLoads && (kAhead & (kAhead - 1)) == 0 && kFind >= 0);
  static_assert(kLoads % kStep == 0 && kKLoads % kStep == 0 && kAhead % kStep == 0);

  // Where this warp's runs of a tile's tokens lie, in granules: one of each block of kLoadTokens,
  // known to the lane of the block's number.
  struct Runs {
    uint32_t page = 0;
    uint32_t k = 0;
    uint32_t v = 0;
    int32_t token = 0;  // this thread's in the first block
  };

  __device__ void start(const PrefillWork& at) {
    begin_ = at.work.kv_begin, end_ = at.work.kv_end, pages_ = at.seq.pages;
    const int kv_head = at.work.head_begin / (p_.shape.heads / p_.shape.kv_heads);
    head_row_ = kv_head * p_.page_tokens;
    const int row = thread_ / 4 % kRun, column = thread_ % 4 * kCodes;
    k_from_ = p_.k + row * P::kKWidth + column;
    v_from_ = p_.v + row * P::kVWidth + column;
  }

  __device__ Runs find(int32_t tile) const {
    Runs runs{.token = tile * P::kKv + thread_ / 4};
    const int lane = thread_ % kWarp;
    const int32_t token = runs.token / kRun * kRun + lane * kLoadTokens;
    if (lane < kBlocks && token < end_ && token + kRun > begin_) {
      const uint32_t granule = __ldg(pages_ + (token >> p_.page_shift));
      const uint32_t run = (head_row_ + (token & (p_.page_tokens - 1))) / kRun;
      runs.page = granule;
      runs.k = granule + run * (kRun * P::kKWidth / static_cast<int>(kGranuleBytes));
      runs.v = granule + run * (kRun * P::kVWidth / static_cast<int>(kGranuleBytes));
    }
    return runs;
  }

  // A scale of one token of the tile: lanes know K's of the warp's tokens, then V's. Read early.
  __device__ float find_scale(const Runs& runs) const {
    const int lane = thread_ % kWarp, block = lane / kWarpTokens % kBlocks;
    const uint32_t page = __shfl_sync(~0u, runs.page, block);
    const uint32_t token = scale_token(runs.token / kWarpTokens * kWarpTokens) - begin_;
    if (lane >= 2 * kBlocks * kWarpTokens || token >= static_cast<uint32_t>(end_ - begin_))
      return 1;
    const int32_t slot = static_cast<int32_t>(token + begin_) & (p_.page_tokens - 1);
    const int32_t head_row = head_row_ + (holds_v_scale() ? p_.shape.kv_heads * p_.page_tokens : 0);
    const std::byte* scales = p_.scales + int64_t{page} * kGranuleBytes;
    return __ldg(reinterpret_cast<const float*>(scales) + head_row + slot);
  }

  // The token of the lane's scale, where the warp's first token of the first block is `first`.
  __device__ int32_t scale_token(int32_t first) const {
    const int lane = thread_ % kWarp;
    return first + lane / kWarpTokens % kBlocks * kLoadTokens + lane % kWarpTokens;
  }
  __device__ bool holds_v_scale() const { return thread_ % kWarp / (kBlocks * kWarpTokens) == 1; }

  __device__ void write_scale(float scale) {
    auto& to = s_.scales[scales_.slot];
    const int32_t token = scale_token(thread_ / kWarp * kWarpTokens);
    if (holds_v_scale()) {
      to.log2_v[token] = __log2f(scale);
      to.inverse_v[token] = __fdividef(1.0f, scale);
    } else if (thread_ % kWarp < kBlocks * kWarpTokens) {
      to.k[token] = scale;
    }
    scales_.step();
  }

  // Asks for load `i` of a round, of one tile's K, then of the tile before's V: into place `n` of
  // the step that the ring is at.
  __device__ void ask(const Runs& k, const Runs& v, int i, int n) const {
    const bool is_k = i < kKLoads;
    if (!is_k) i -= kKLoads;
    const int chunks = is_k ? P::kKChunks : P::kVChunks, block = i / chunks;
    const uint32_t token = (is_k ? k : v).token + block * kLoadTokens - begin_;
    const int64_t run = __shfl_sync(~0u, is_k ? k.k : v.v, block);
    const std::byte* from = (is_k ? k_from_ : v_from_) + run * kGranuleBytes;
    copy_async_16(staged_ + at_ + n * kLoadBytes, from + i % chunks * kChunk,
                  token < static_cast<uint32_t>(end_ - begin_));
  }

  __device__ void ask_step(const Runs& k, const Runs& v, const Runs& next, int i) {
#pragma unroll
    for (int n = 0; n < kStep; ++n)
      i + n < kLoads ? ask(k, v, i + n, n) : ask(next, k, i + n - kLoads, n);
    copy_async_commit();
    at_ = (at_ + kStep * kLoadBytes) % (kAhead * kLoadBytes);
  }

  // The oldest step's codes, once they have come.
  __device__ void read_step(uint4 (&codes)[kStep]) const {
    copy_async_wait<kAhead / kStep - 1>();
#pragma unroll
    for (int n = 0; n < kStep; ++n) codes[n] = read_shared_16(staged_ + at_ + n * kLoadBytes);
  }

  // Load `i` of K (or of V) to the tile at `to`.
  template <int kChunks>
  __device__ static void write(const uint4& codes, uint32_t to, int i) {
    const int at = (i % kChunks * P::kKv + i / kChunks * kLoadTokens) * kChunkBytes;
    uint32_t w[8];
    widen_f8<P::kStored>(codes.x, w[0], w[1]);
    widen_f8<P::kStored>(codes.y, w[2], w[3]);
    widen_f8<P::kStored>(codes.z, w[4], w[5]);
    widen_f8<P::kStored>(codes.w, w[6], w[7]);
    write_shared_16(to + at, {w[0], w[1], w[2], w[3]});
    write_shared_16((to ^ 16) + at, {w[4], w[5], w[6], w[7]});
  }

  __device__ static void filled(Barrier& full) {
    fence_proxy_async();
    __syncwarp();
    if (threadIdx.x % kWarp == 0) full.arrive();
  }

  // Steps [kBegin, kEnd) of a round: K's or V's, to the tile at `to`. Without kWrite what comes is
  // nothing, and only the asking goes on.
  template <int kBegin, int kEnd, bool kWrite>
  __device__ void steps(const Runs& k, const Runs& v, Runs& next, int32_t tile, uint32_t to) {
#pragma unroll
    for (int i = kBegin; i < kEnd; i += kStep) {
      if (i == kFind) next = find(tile + 1);
      uint4 codes[kStep];
      read_step(codes);
#pragma unroll
      for (int n = 0; n < kStep; ++n) {
        if constexpr (!kWrite) continue;
        if (kBegin == 0) write<P::kKChunks>(codes[n], to, i + n);
        if (kBegin != 0) write<P::kVChunks>(codes[n], to, i + n - kKLoads);
      }
      ask_step(k, v, next, i + kAhead);
    }
  }

  // A work's rounds: the first has no V, the last no K. Queries come after the first K, which need
  // not wait for the work before to be done with its own.
  template <class LoadQ>
  __device__ void load(LoadQ load_q) {
    const int32_t first = begin_ / P::kKv, end = (end_ + P::kKv - 1) / P::kKv;
    Runs v, k = find(first), next;
#pragma unroll
    for (int i = 0; i < kAhead; i += kStep) ask_step(k, v, next, i);
    for (int32_t tile = first; tile <= end; ++tile) {  // of K; V's is the one before
      if (tile < end) {
        float scale = 1;
        if constexpr (P::kTokenScales) scale = find_scale(k);
        s_.k_empty[k_.slot].wait(k_.parity ^ 1);
        steps<0, kKLoads, true>(k, v, next, tile, shared_address(s_.k[k_.slot]) + place_);
        if constexpr (P::kTokenScales) write_scale(scale);
        filled(s_.k_full[k_.slot]);
        k_.step();
      } else {
        steps<0, kKLoads, false>(k, v, next, tile, 0);
      }
      if (tile > first) {
        s_.v_empty[v_.slot].wait(v_.parity ^ 1);
        steps<kKLoads, kLoads, true>(k, v, next, tile, shared_address(s_.v[v_.slot]) + place_);
        filled(s_.v_full[v_.slot]);
        v_.step();
      } else {
        load_q();
        steps<kKLoads, kLoads, false>(k, v, next, tile, 0);
      }
      v = k;
      k = next;
    }
    copy_async_wait<0>();
  }

  PrefillShared<P>& s_;
  const PrefillParams& p_;
  const int thread_ = threadIdx.x - P::kGroups * kWarpgroup;
  uint32_t place_, staged_;
  uint32_t at_ = 0;                             // in the ring, of the oldest step
  int32_t begin_ = 0, end_ = 0, head_row_ = 0;  // of the work
  const uint32_t* pages_ = nullptr;
  const std::byte* k_from_ = nullptr;
  const std::byte* v_from_ = nullptr;
  Ring<P::kStages> k_, v_;
  Ring<P::kScaleSlots> scales_;
};

}  // namespace ashlar::cuda
