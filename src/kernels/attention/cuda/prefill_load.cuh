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

// The copies that a tile's tokens come in, one known to each lane.
struct TileBoxes {
  uint32_t granule = 0;  // of this lane's box
  int32_t token = 0;     // first of the tile
  uint32_t valid = 0;    // boxes to bring, of all lanes

  template <class P>
  __device__ static TileBoxes find(const PrefillParams& p, const PrefillWork& at, int32_t tile) {
    TileBoxes boxes{.token = tile * P::kKv};
    const int lane = threadIdx.x % kWarp;
    const int32_t token = boxes.token + lane * p.box_tokens;
    const bool valid = lane * p.box_tokens < P::kKv && token < at.work.kv_end &&
                       token + p.box_tokens > at.work.kv_begin;
    if (valid) boxes.granule = __ldg(at.seq.pages + token / p.page_tokens);
    boxes.valid = __ballot_sync(~0u, valid);
    return boxes;
  }

  // Queues the copies of one tile of K (or V) to `to`. All lanes; one of them asks.
  template <int kChunks, int kTileTokens>
  __device__ void copy(const PrefillParams& p, const CUtensorMap& map, int kv_head, uint32_t to,
                       Barrier& full) const {
    const bool asks = threadIdx.x % kWarp == 0;
    const uint32_t box_bytes = p.box_tokens * kChunkBytes;
    if (asks) full.arrive_expect_bytes(__popc(valid) * kChunks * box_bytes);
    for (uint32_t left = valid; left != 0; left &= left - 1) {
      const int box = __ffs(left) - 1;
      const int at = static_cast<int>(__shfl_sync(~0u, granule, box));
      if (!asks) continue;
      const int slot = (token + box * p.box_tokens) % p.page_tokens;
#pragma unroll
      for (int c = 0; c < kChunks; ++c) {
        copy_tensor_4d(to + c * kTileTokens * kChunkBytes + box * box_bytes, &map, c * kChunk, slot,
                       kv_head, at, full);
      }
    }
  }
};

// What every loader does about works and their queries. Called by one whole warp.
template <class P>
class WorkLoader {
 public:
  __device__ WorkLoader(PrefillShared<P>& shared, const PrefillParams& p, const CUtensorMap& q)
      : s_(shared), p_(p), q_map_(q) {}

  __device__ int32_t take() {
    int32_t index = 0;
    if (threadIdx.x % kWarp == 0) index = take_work(p_);
    return __shfl_sync(~0u, index, 0);
  }

  // Tells the multiplying groups what they get next, and brings its queries: as many whole tokens
  // as fit, though rows beyond the work's are never stored.
  __device__ void start(const PrefillWork& at) {
    announce(at, p_.q_rows * P::kKChunks * kChunkBytes);
    if (threadIdx.x % kWarp == 0) {
      for (int c = 0; c < P::kKChunks; ++c) {
        copy_tensor_3d(shared_address(s_.q[q_.slot]) + c * P::kRows * kChunkBytes, &q_map_,
                       c * kChunk, at.work.head_begin, at.seq.q_begin + at.work.token_begin,
                       s_.q_full[q_.slot]);
      }
    }
    q_.step();
  }

  __device__ void finish() { announce({}, 0); }

 private:
  __device__ void announce(const PrefillWork& at, uint32_t bytes) {
    s_.q_empty[q_.slot].wait(q_.parity ^ 1);
    if (threadIdx.x % kWarp != 0) return;
    s_.work[q_.slot] = at;
    s_.q_full[q_.slot].arrive_expect_bytes(bytes);
  }

  PrefillShared<P>& s_;
  const PrefillParams& p_;
  const CUtensorMap& q_map_;
  Ring<P::kQSlots> q_;
};

// One warp that brings everything by tensor copies.
template <class P>
class TensorLoader {
 public:
  __device__ TensorLoader(PrefillShared<P>& shared, const PrefillParams& p, const CUtensorMap& q,
                          const CUtensorMap& k, const CUtensorMap& v)
      : s_(shared), p_(p), k_map_(k), v_map_(v), works_(shared, p, q) {}

  __device__ void run() {
    int32_t index = works_.take();
    while (index < p_.n_works) {
      const int32_t following = works_.take();  // its latency hides behind this work
      PrefillWork at{.work = p_.works[index]};
      at.seq = p_.seqs[at.work.seq];
      works_.start(at);
      load_kv(at);
      index = following;
    }
    works_.finish();
  }

 private:
  // In the order in which the tiles are used: a tile's scores, then the values of the one before.
  __device__ void load_kv(const PrefillWork& at) {
    const int kv_head = at.work.head_begin / (p_.shape.heads / p_.shape.kv_heads);
    const int32_t first = at.work.kv_begin / P::kKv;
    const int32_t end = (at.work.kv_end + P::kKv - 1) / P::kKv;
    TileBoxes boxes = TileBoxes::find<P>(p_, at, first);
    load_k(boxes, kv_head);
    for (int32_t tile = first; tile < end; ++tile) {
      TileBoxes next;
      if (tile + 1 < end) {
        next = TileBoxes::find<P>(p_, at, tile + 1);
        load_k(next, kv_head);
      }
      load_v(boxes, kv_head);
      boxes = next;
    }
  }

  __device__ void load_k(const TileBoxes& boxes, int kv_head) {
    s_.k_empty[k_.slot].wait(k_.parity ^ 1);
    boxes.template copy<P::kKChunks, P::kKv>(p_, k_map_, kv_head, shared_address(s_.k[k_.slot]),
                                             s_.k_full[k_.slot]);
    k_.step();
  }

  __device__ void load_v(const TileBoxes& boxes, int kv_head) {
    s_.v_empty[v_.slot].wait(v_.parity ^ 1);
    boxes.template copy<P::kVChunks, P::kKv>(p_, v_map_, kv_head, shared_address(s_.v[v_.slot]),
                                             s_.v_full[v_.slot]);
    v_.step();
  }

  PrefillShared<P>& s_;
  const PrefillParams& p_;
  const CUtensorMap& k_map_;
  const CUtensorMap& v_map_;
  WorkLoader<P> works_;
  Ring<P::kStages> k_, v_;
};

}  // namespace ashlar::cuda
