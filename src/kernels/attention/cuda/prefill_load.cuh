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

// Brings tiles of K (or of V) in their order: one thread, by tensor copies. Table entries are read
// a page ahead.
template <int kChunks, int kTileTokens>
class TileCopier {
 public:
  __device__ TileCopier(const PrefillParams& p, const CUtensorMap& map, int32_t dim)
      : p_(p), map_(map), dim_(dim) {}

  __device__ void start(const PrefillWork& at) {
    const int kv_head = at.work.head_begin / (p_.shape.heads / p_.shape.kv_heads);
    head_granules_ = kv_head * (p_.page_tokens * dim_ * 2 / static_cast<int>(kGranuleBytes));
    end_ = at.work.kv_end;
    token_ = at.work.kv_begin / p_.box_tokens * p_.box_tokens;
    slot_ = token_ % p_.page_tokens;
    page_ = at.seq.pages + token_ / p_.page_tokens;
    unread_ = token_ - slot_ + p_.page_tokens;
    granule_ = __ldg(page_);
    read_ahead();
  }

  // The tile whose tokens end before `tile_end`, to `to`.
  __device__ void copy(int32_t tile_end, uint32_t to, Barrier& full) {
    const uint32_t box_bytes = p_.box_tokens * kChunks * kChunkBytes;
    const int32_t end = ::min(tile_end, end_);
    const int32_t boxes = (end - token_ + p_.box_tokens - 1) / p_.box_tokens;
    full.arrive_expect_bytes(boxes * box_bytes);
    to += (token_ - (tile_end - kTileTokens)) * kChunks * kChunkBytes;
    for (; token_ < end; token_ += p_.box_tokens, to += box_bytes) {
      copy_box(to, full);
      slot_ += p_.box_tokens;
      if (slot_ < p_.page_tokens) continue;
      slot_ = 0;
      granule_ = next_;
      read_ahead();
    }
  }

 private:
  // Tensors narrower than their chunks go piece by piece, so that what is beyond them is zero.
  __device__ void copy_box(uint32_t to, Barrier& full) {
    const int at = static_cast<int>(granule_) + head_granules_, atom = slot_ / kAtomRows;
    if (dim_ == kChunks * kChunk) {
      copy_tensor_5d(to, &map_, 0, 0, 0, atom, at, full);
      return;
    }
    for (int i = 0; i < p_.box_tokens / kAtomRows * kChunks; ++i) {
      copy_tensor_5d(to + i * kAtomBytes, &map_, i % kChunks * kChunk, 0, 0, atom + i / kChunks, at,
                     full);
    }
  }

  __device__ void read_ahead() {
    if (unread_ < end_) next_ = __ldg(++page_);
    unread_ += p_.page_tokens;
  }

  const PrefillParams& p_;
  const CUtensorMap& map_;
  const int32_t dim_;
  int32_t head_granules_ = 0;  // from a page to our head's part of it
  int32_t token_ = 0, end_ = 0;
  int32_t slot_ = 0;                 // of token_ in its page
  int32_t unread_ = 0;               // the first token of the page after next_'s
  uint32_t granule_ = 0, next_ = 0;  // of token_'s page, and of the one after it
  const uint32_t* page_ = nullptr;   // next_'s entry
};

// Takes works, tells the others of them, and brings their queries. One thread.
template <class P>
class WorkLoader {
 public:
  __device__ WorkLoader(PrefillShared<P>& shared, const PrefillParams& p, const CUtensorMap& q)
      : s_(shared), p_(p), q_map_(q) {}

  __device__ void begin() { next_ = take_work(p_); }

  // Whether there is another work. The latency of taking one hides behind the one before.
  __device__ bool take(PrefillWork& at) {
    if (next_ >= p_.n_works) return false;
    at.work = p_.works[in_order(p_, next_)];
    at.seq = p_.seqs[at.work.seq];
    next_ = take_work(p_);
    return true;
  }

  // Brings as many whole tokens as fit; rows beyond the work's are never stored.
  __device__ void start(const PrefillWork& at) {
    announce(at, p_.q_rows * P::kKChunks * kChunkBytes);
    for (int c = 0; c < P::kKChunks; ++c) {
      copy_tensor_3d(shared_address(s_.q[q_.slot]) + c * P::kRows * kChunkBytes, &q_map_,
                     c * kChunk, at.work.head_begin, at.seq.q_begin + at.work.token_begin,
                     s_.q_full[q_.slot]);
    }
    q_.step();
  }

  __device__ void finish() { announce({}, 0); }

 private:
  __device__ void announce(const PrefillWork& at, uint32_t bytes) {
    s_.q_empty[q_.slot].wait(q_.parity ^ 1);
    s_.work[q_.slot] = at;
    s_.q_full[q_.slot].arrive_expect_bytes(bytes);
  }

  PrefillShared<P>& s_;
  const PrefillParams& p_;
  const CUtensorMap& q_map_;
  int32_t next_ = 0;
  Ring<P::kQSlots> q_;
};

// Two threads of two warps: one brings queries and K, the other V.
template <class P>
__device__ void load_queries_and_k(PrefillShared<P>& s, const PrefillParams& p,
                                   const CUtensorMap& q, const CUtensorMap& k) {
  WorkLoader<P> works(s, p, q);
  TileCopier<P::kKChunks, P::kKv> copier(p, k, p.shape.k_dim);
  Ring<P::kStages> ring;
  PrefillWork at;
  works.begin();
  while (works.take(at)) {
    works.start(at);
    copier.start(at);
    for (int32_t tile = at.work.kv_begin / P::kKv; tile * P::kKv < at.work.kv_end; ++tile) {
      s.k_empty[ring.slot].wait(ring.parity ^ 1);
      copier.copy((tile + 1) * P::kKv, shared_address(s.k[ring.slot]), s.k_full[ring.slot]);
      ring.step();
    }
  }
  works.finish();
}

template <class P>
__device__ void load_v(PrefillShared<P>& s, const PrefillParams& p, const CUtensorMap& v) {
  TileCopier<P::kVChunks, P::kKv> copier(p, v, p.shape.v_dim);
  Ring<P::kStages> ring;
  Ring<P::kQSlots> works;
  while (true) {
    s.q_full[works.slot].wait(works.parity);
    const PrefillWork at = s.work[works.slot];
    s.q_empty[works.slot].arrive();
    works.step();
    if (at.work.n_heads == 0) return;
    copier.start(at);
    for (int32_t tile = at.work.kv_begin / P::kKv; tile * P::kKv < at.work.kv_end; ++tile) {
      s.v_empty[ring.slot].wait(ring.parity ^ 1);
      copier.copy((tile + 1) * P::kKv, shared_address(s.v[ring.slot]), s.v_full[ring.slot]);
      ring.step();
    }
  }
}

}  // namespace ashlar::cuda
