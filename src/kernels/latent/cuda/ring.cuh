#pragma once

// A ring of tiles in shared memory, from two sides: who fills it and who reads it, tile after tile
// through all works of a block.
//
// TensorRing (Hopper): a warp of its own fills, one tensor copy for each page and column.
// CopyRing (before Hopper): the readers fill, each a few chunks of 16 bytes.
//
// A reader calls, for tile i of a work: await(i), then synchronises with the other readers, reads,
// leave(i); and refill() once after a synchronisation that follows everybody's leave().

#include "kernels/latent/cuda/tile.cuh"

namespace ashlar::cuda {

template <int kStages>
struct RingBarriers {
  Barrier full[kStages];   // a tile has come
  Barrier empty[kStages];  // all readers have left

  __device__ void init(int readers) {
    for (int i = 0; i < kStages; ++i) full[i].init(1), empty[i].init(readers);
    fence_barrier_init();
  }
};

// The place of a tile in the ring, and how often the ring was walked.
template <int kStages>
struct RingPlace {
  int stage = 0;
  uint32_t parity = 0;
  __device__ void next() {
    if (++stage == kStages) stage = 0, parity ^= 1;
  }
};

// All copies of one tile by the lanes of a warp; `barrier` hears of the bytes. Pages wholly beyond
// the work are neither looked up nor read.
template <class Tile>
__device__ inline void copy_tile(const LatentArgs& args, const CUtensorMap* map,
                                 const CudaWork& work, int position, uint32_t to,
                                 Barrier& barrier) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int page = 1 << args.page_shift, box = min(page, Tile::kTokens);
  const int n_boxes = min(Tile::kTokens, work.kv_end - position + box - 1) / box;
  if (lane == 0) barrier.arrive_expect_bytes(n_boxes * box * Tile::kRowBytes);
  __syncwarp();
  if (lane >= n_boxes) return;
  const int first = position + lane * box;
  const int granule = static_cast<int>(work.pages[first >> args.page_shift]);
#pragma unroll
  for (int column = 0; column < Tile::kColumns; ++column) {
    copy_tensor_3d(to + column * Tile::kColumnBytes + lane * box * Tile::kLine, map, 64 * column,
                   first & (page - 1), granule, barrier);
  }
}

// The filling warp's whole life.
template <class Tile, int kStages>
__device__ inline void fill_ring(const LatentArgs& args, const CUtensorMap* map, std::byte* ring,
                                 RingBarriers<kStages>& barriers) {
  RingPlace<kStages> place;
  for (int i = first_work(args); i < last_work(args); ++i) {
    const CudaWork work = args.works[i];
    for (int position = work.kv_begin; position < work.kv_end; position += Tile::kTokens) {
      barriers.empty[place.stage].wait(place.parity ^ 1);
      copy_tile<Tile>(args, map, work, position, shared_address(ring + place.stage * Tile::kBytes),
                      barriers.full[place.stage]);
      place.next();
    }
  }
}

template <class Tile, int kStages, int kReaders>
class TensorRing {
 public:
  using Barriers = RingBarriers<kStages>;
  __device__ TensorRing(const LatentArgs&, std::byte* ring, Barriers& barriers)
      : ring_(shared_address(ring)), barriers_(barriers) {}

  __device__ void start(const CudaWork& work) { kv_begin_ = work.kv_begin, kv_end_ = work.kv_end; }
  // Returns where the tile lies.
  __device__ uint32_t await(int tile) {
    barriers_.full[coming_.stage].wait(coming_.parity);
    const uint32_t at = ring_ + coming_.stage * Tile::kBytes;
    coming_.next();
    const int tokens = kv_end_ - kv_begin_ - tile * Tile::kTokens;
    if (tokens < Tile::kTokens) {
      clear_tokens<Tile>(at, tokens, static_cast<int>(threadIdx.x), kReaders);
      fence_proxy_async();
    }
    return at;
  }
  __device__ void leave(int) {
    __syncwarp();
    if (threadIdx.x % 32 == 0) barriers_.empty[going_.stage].arrive();
    going_.next();
  }
  __device__ void refill() {}
  __device__ void finish() {}

 private:
  const uint32_t ring_;
  Barriers& barriers_;
  RingPlace<kStages> coming_, going_;
  int kv_begin_ = 0;
  int kv_end_ = 0;
};

template <class Tile, int kStages, int kReaders>
class CopyRing {
  static constexpr int kRowThreads = Tile::kChunks;                     // that copy a row together
  static constexpr int kRows = Tile::kTokens * kRowThreads / kReaders;  // of a thread
  static_assert(kRows * kReaders == Tile::kTokens * kRowThreads);

 public:
  struct Barriers {};
  __device__ CopyRing(const LatentArgs& args, std::byte* ring, Barriers&)
      : args_(args), ring_(shared_address(ring)) {}

  __device__ void start(const CudaWork& work) {
    pages_ = work.pages, kv_begin_ = work.kv_begin, kv_end_ = work.kv_end;
    filled_ = 0;
    for (int i = 0; i < kStages - 1; ++i) fill();
  }
  __device__ uint32_t await(int tile) {
    copy_async_wait<kStages - 2>();
    return ring_ + tile % kStages * Tile::kBytes;
  }
  __device__ void leave(int) {}
  __device__ void refill() { fill(); }
  __device__ void finish() {
    copy_async_wait<0>();
    __syncthreads();
  }

 private:
  // One tile, as one group of copies, an empty one at the end; zeros beyond the work.
  __device__ void fill() {
    const int thread = static_cast<int>(threadIdx.x), chunk = thread % kRowThreads;
    const uint32_t to = ring_ + filled_ % kStages * Tile::kBytes;
    const int begin = kv_begin_ + filled_ * Tile::kTokens;
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      if (begin >= kv_end_) break;
      const int token = thread / kRowThreads + i * (kReaders / kRowThreads);
      const int position = begin + token;
      const bool valid = position < kv_end_;
      const std::byte* from = args_.rows;
      if (valid)
        from = row_at<Tile::kRowBytes>(args_, pages_[position >> args_.page_shift], position);
#pragma unroll
      for (int column = 0; column < Tile::kColumns; ++column) {
        copy_async_16(to + column * Tile::kColumnBytes + Tile::offset(token, chunk),
                      from + (valid ? column * Tile::kLine + 16 * chunk : 0), valid);
      }
    }
    ++filled_;
    copy_async_commit();
  }

  const LatentArgs& args_;
  const uint32_t ring_;
  const uint32_t* pages_ = nullptr;
  int kv_begin_ = 0;
  int kv_end_ = 0;
  int filled_ = 0;
};

}  // namespace ashlar::cuda
