#pragma once

// The loading side of prefill: takes works, and brings their queries, K and V into the rings.
//
// Tiles stand at multiples of their size, and only what [kv_begin, kv_end) of a work touches is
// brought in: other tokens of a tile hold whatever was there before, and table entries of pages
// that hold nothing else are not looked at.

#include "kernels/attention/cuda/prefill_policy.cuh"

namespace ashlar::cuda {

// Works are handed out in order, longest first. Every block is refused once; the last one refused
// leaves the counter as it found it.
__device__ inline int32_t take_work(const PrefillParams& p) {
  const int32_t taken = atomicAdd(p.next, 1);
  if (taken == p.n_works + static_cast<int32_t>(gridDim.x) - 1) *p.next = 0;
  return taken;
}

// The order in which works are done: longest first as they lie, but so that blocks that run
// together share a KV head, whose K and V the L2 cache then holds. Works of one length lie head by
// head.
__device__ inline int32_t in_order(const PrefillParams& p, int32_t i) {
  const int32_t heads = p.shape.kv_heads;
  const int32_t whole = heads * static_cast<int32_t>(gridDim.x);
  const int32_t begin = i / whole * whole;
  const int32_t together = ::min(whole, p.n_works - begin) / heads;
  return begin + (i - begin) % together * heads + (i - begin) / together;
}

// Takes works, tells everybody of them, and brings their queries. One thread.
template <class P>
class WorkLoader {
 public:
  __device__ WorkLoader(PrefillShared<P>& shared, const PrefillParams& p, const CUtensorMap& q)
      : s_(shared), p_(p), q_map_(q) {}

  __device__ void begin() { next_ = take_work(p_); }

  // Tells of the next work, or of the end, and returns whether there is one. The latency of taking
  // one hides behind the one before.
  __device__ bool tell(PrefillWork& at) {
    const bool any = next_ < p_.n_works;
    at = {};
    if (any) {
      at.work = p_.works[in_order(p_, next_)];
      at.seq = p_.seqs[at.work.seq];
      next_ = take_work(p_);
    }
    s_.work_done[works_.slot].wait_idly(works_.parity ^ 1);
    s_.work[works_.slot] = at;
    s_.work_told[works_.slot].arrive();
    works_.step();
    return any;
  }

  // Brings as many whole tokens as fit; rows beyond the work's are never stored.
  __device__ void load_q(const PrefillWork& at) {
    s_.q_empty[q_.slot].wait_idly(q_.parity ^ 1);
    Barrier& full = s_.q_full[q_.slot];
    full.arrive_expect_bytes(p_.q_rows * P::kKChunks * kChunkBytes);
    for (int c = 0; c < P::kKChunks; ++c) {
      copy_tensor_3d(shared_address(s_.q[q_.slot]) + c * P::kRows * kChunkBytes, &q_map_,
                     c * kChunk, at.work.head_begin, at.seq.q_begin + at.work.token_begin, full);
    }
    q_.step();
  }

 private:
  PrefillShared<P>& s_;
  const PrefillParams& p_;
  const CUtensorMap& q_map_;
  int32_t next_ = 0;
  Ring<P::kWorkSlots> works_;
  Ring<P::kQSlots> q_;
};

// Hears of works, as WorkLoader tells them: one warp.
template <class P>
class WorkListener {
 public:
  // False when there are no more.
  __device__ bool hear(PrefillShared<P>& s, PrefillWork& at) {
    s.work_told[works_.slot].wait(works_.parity);
    at = s.work[works_.slot];
    __syncwarp();
    if (threadIdx.x % kWarp == 0) s.work_done[works_.slot].arrive();
    works_.step();
    return at.work.n_heads > 0;
  }

 private:
  Ring<P::kWorkSlots> works_;
};

// Brings tiles of K (or of V) by tensor copies: one warp, of which each lane knows one copy, a box
// of tokens of one chunk.
template <int kChunks, int kTileTokens>
class TileCopier {
 public:
  __device__ TileCopier(const PrefillParams& p, const CUtensorMap& map, int32_t dim)
      : p_(p),
        map_(map),
        head_granules_(p.page_tokens * dim * 2 / static_cast<int>(kGranuleBytes)) {
    first_ = static_cast<int32_t>(threadIdx.x) % kWarp / kChunks * p.box_tokens;
  }

  // Looks up where the tile's boxes lie: ahead of the time to copy them.
  __device__ void find(const PrefillWork& at, int kv_head, int32_t tile) {
    const int32_t token = tile * kTileTokens + first_;
    valid_ =
        first_ < kTileTokens && token < at.work.kv_end && token + p_.box_tokens > at.work.kv_begin;
    if (valid_)
      granule_ = __ldg(at.seq.pages + (token >> p_.page_shift)) + kv_head * head_granules_;
    slot_ = token & (p_.page_tokens - 1);
  }

  // Copies what was found to the tile at `to`.
  __device__ void copy(uint32_t to, Barrier& full) const {
    const uint32_t box_bytes = p_.box_tokens * kChunkBytes;
    const uint32_t copies = __popc(__ballot_sync(~0u, valid_));
    if (threadIdx.x % kWarp == 0) full.arrive_expect_bytes(copies * box_bytes);
    __syncwarp();
    const int chunk = static_cast<int>(threadIdx.x) % kWarp % kChunks;
    if (valid_) {
      copy_tensor_3d(to + (chunk * kTileTokens + first_) * kChunkBytes, &map_, chunk * kChunk,
                     slot_, static_cast<int>(granule_), full);
    }
    __syncwarp();
  }

 private:
  static_assert(kTileTokens / 16 * kChunks <= kWarp);

  const PrefillParams& p_;
  const CUtensorMap& map_;
  const uint32_t head_granules_;  // from a head's part of a page to the next one's
  int32_t first_;                 // token of a tile
  bool valid_ = false;
  uint32_t granule_ = 0;
  int32_t slot_ = 0;
};

template <class P, int kChunks, size_t kBytes>
__device__ void load_tiles(PrefillShared<P>& s, const PrefillParams& p, const CUtensorMap& map,
                           int32_t dim, uint8_t (&tiles)[P::kStages][kBytes], Barrier* full,
                           Barrier* empty) {
  TileCopier<kChunks, P::kKv> copier(p, map, dim);
  Ring<P::kStages> ring;
  WorkListener<P> works;
  PrefillWork at;
  while (works.hear(s, at)) {
    const int kv_head = at.work.head_begin / (p.shape.heads / p.shape.kv_heads);
    for (int32_t tile = at.work.kv_begin / P::kKv; tile * P::kKv < at.work.kv_end; ++tile) {
      copier.find(at, kv_head, tile);
      empty[ring.slot].wait(ring.parity ^ 1);
      copier.copy(shared_address(tiles[ring.slot]), full[ring.slot]);
      ring.step();
    }
  }
}

// Three warps: works and queries, K, V.
template <class P>
__device__ void load_by_copies(PrefillShared<P>& s, const PrefillParams& p, int warp,
                               const CUtensorMap& q, const CUtensorMap& k, const CUtensorMap& v) {
  if (warp == 0 && threadIdx.x % kWarp == 0) {
    WorkLoader<P> works(s, p, q);
    works.begin();
    PrefillWork at;
    while (works.tell(at)) works.load_q(at);
  } else if (warp == 1) {
    load_tiles<P, P::kKChunks>(s, p, k, p.shape.k_dim, s.k, s.k_full, s.k_empty);
  } else if (warp == 2) {
    load_tiles<P, P::kVChunks>(s, p, v, p.shape.v_dim, s.v, s.v_full, s.v_empty);
  }
}

}  // namespace ashlar::cuda
