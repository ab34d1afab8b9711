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
    s_.work_done[works_.slot].wait(works_.parity ^ 1);
    s_.work[works_.slot] = at;
    s_.work_told[works_.slot].arrive();
    works_.step();
    return any;
  }

  // Brings as many whole tokens as fit; rows beyond the work's are never stored.
  __device__ void load_q(const PrefillWork& at) {
    s_.q_empty[q_.slot].wait(q_.parity ^ 1);
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

// Hears of works, as WorkLoader tells them: a whole warp, or one thread of it.
template <class P, bool kWholeWarp>
class WorkListener {
 public:
  // False when there are no more.
  __device__ bool hear(PrefillShared<P>& s, PrefillWork& at) {
    s.work_told[works_.slot].wait(works_.parity);
    at = s.work[works_.slot];
    if constexpr (kWholeWarp) __syncwarp();
    if (!kWholeWarp || threadIdx.x % kWarp == 0) s.work_done[works_.slot].arrive();
    works_.step();
    return at.work.n_heads > 0;
  }

 private:
  Ring<P::kWorkSlots> works_;
};

// Brings one part of every tile of K (or of V): one thread, by tensor copies.
template <int kChunks, int kTileTokens, int kParts>
class TileCopier {
 public:
  __device__ TileCopier(const PrefillParams& p, const CUtensorMap& map, int32_t dim, int part)
      : p_(p), map_(map), dim_(dim), first_(part * kTokens) {}

  __device__ void start(const PrefillWork& at) {
    const int kv_head = at.work.head_begin / (p_.shape.heads / p_.shape.kv_heads);
    head_granules_ = kv_head * (p_.page_tokens * dim_ * 2 / static_cast<int>(kGranuleBytes));
    begin_ = at.work.kv_begin, end_ = at.work.kv_end;
    pages_ = at.seq.pages;
  }

  // Looks up where the part's boxes lie: ahead of the time to copy them.
  __device__ void find(int32_t tile) {
    valid_ = 0;
    first_token_ = tile * kTileTokens + first_;
#pragma unroll
    for (int i = 0; i < kBoxes; ++i) {
      const int32_t token = first_token_ + i * p_.box_tokens;
      if (i * p_.box_tokens >= kTokens || token >= end_ || token + p_.box_tokens <= begin_)
        continue;
      valid_ |= 1 << i;
      granule_[i] = __ldg(pages_ + token / p_.page_tokens) + head_granules_;
    }
  }

  // Copies what was found to the tile at `to`.
  __device__ void copy(uint32_t to, Barrier& full) const {
    const uint32_t box_bytes = p_.box_tokens * kChunks * kChunkBytes;
    full.arrive_expect_bytes(__popc(valid_) * box_bytes);
    to += first_ * kChunks * kChunkBytes;
#pragma unroll
    for (int i = 0; i < kBoxes; ++i) {
      if ((valid_ >> i & 1) == 0) continue;
      const int32_t token = first_token_ + i * p_.box_tokens;
      copy_box(to + i * box_bytes, token % p_.page_tokens / kAtomRows,
               static_cast<int>(granule_[i]), full);
    }
  }

 private:
  static constexpr int kTokens = kTileTokens / kParts;
  static constexpr int kBoxes = kTokens / 16;  // at most

  // Tensors narrower than their chunks go piece by piece, so that what is beyond them is zero.
  __device__ void copy_box(uint32_t to, int atom, int granule, Barrier& full) const {
    if (dim_ == kChunks * kChunk) {
      copy_tensor_5d(to, &map_, 0, 0, 0, atom, granule, full);
      return;
    }
    for (int i = 0; i < p_.box_tokens / kAtomRows * kChunks; ++i) {
      copy_tensor_5d(to + i * kAtomBytes, &map_, i % kChunks * kChunk, 0, 0, atom + i / kChunks,
                     granule, full);
    }
  }

  const PrefillParams& p_;
  const CUtensorMap& map_;
  const int32_t dim_;
  const int32_t first_;        // token of a tile
  int32_t head_granules_ = 0;  // from a page to our head's part of it
  int32_t begin_ = 0, end_ = 0;
  const uint32_t* pages_ = nullptr;
  int32_t first_token_ = 0;
  uint32_t valid_ = 0;
  uint32_t granule_[kBoxes] = {};
};

template <class P, class Copier, size_t kBytes>
__device__ void load_tiles(PrefillShared<P>& s, Copier copier, uint8_t (&tiles)[P::kStages][kBytes],
                           Barrier* full, Barrier* empty) {
  Ring<P::kStages> ring;
  WorkListener<P, false> works;
  PrefillWork at;
  while (works.hear(s, at)) {
    copier.start(at);
    for (int32_t tile = at.work.kv_begin / P::kKv; tile * P::kKv < at.work.kv_end; ++tile) {
      copier.find(tile);
      empty[ring.slot].wait(ring.parity ^ 1);
      copier.copy(shared_address(tiles[ring.slot]), full[ring.slot]);
      ring.step();
    }
  }
}

// One thread of each of four warps: works and queries, two halves of K, V.
template <class P>
__device__ void load_by_copies(PrefillShared<P>& s, const PrefillParams& p, int warp,
                               const CUtensorMap& q, const CUtensorMap& k, const CUtensorMap& v) {
  if (warp == 0) {
    WorkLoader<P> works(s, p, q);
    works.begin();
    PrefillWork at;
    while (works.tell(at)) works.load_q(at);
  } else if (warp == 1) {
    load_tiles<P>(s, TileCopier<P::kVChunks, P::kKv, 1>(p, v, p.shape.v_dim, 0), s.v, s.v_full,
                  s.v_empty);
  } else {
    load_tiles<P>(s, TileCopier<P::kKChunks, P::kKv, kKParts>(p, k, p.shape.k_dim, warp - 2), s.k,
                  s.k_full, s.k_empty);
  }
}

}  // namespace ashlar::cuda
