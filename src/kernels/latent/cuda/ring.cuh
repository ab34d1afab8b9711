#pragma once

// A ring of tiles in shared memory: one warp fills it, others read it, tile after tile through all
// works of a block. On Hopper a tile is a tensor copy for each page and column, before Hopper 16
// bytes a lane at a time.

#include "kernels/latent/cuda/tile.cuh"

namespace ashlar::cuda {

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
constexpr bool kHopper = true;
#else
constexpr bool kHopper = false;
#endif
constexpr int kFillArrivals = kHopper ? 1 : 32;

// Returns once the phase of this parity has completed.
__device__ inline void await_phase(Barrier& barrier, uint32_t parity) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
  barrier.wait(parity);
#else
  asm volatile(
      "{\n.reg .pred done;\nagain:\n"
      "mbarrier.test_wait.parity.shared.b64 done, [%0], %1;\n"
      "@!done bra again;\n}" ::"r"(barrier.address()),
      "r"(parity)
      : "memory");
#endif
}

template <int kStages>
struct RingBarriers {
  Barrier full[kStages];   // a tile has come
  Barrier empty[kStages];  // all readers have left

  __device__ void init(int readers) {
    for (int i = 0; i < kStages; ++i) full[i].init(kFillArrivals), empty[i].init(readers);
    if constexpr (kHopper) fence_barrier_init();
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

// All copies of one tile by the lanes of a warp; `barrier` hears of them. Pages wholly beyond the
// work are neither looked up nor read.
template <class Tile>
__device__ inline void copy_tile(const LatentArgs& args, const CUtensorMap* map,
                                 const CudaWork& work, int position, uint32_t to,
                                 Barrier& barrier) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
  const int page = 1 << args.page_shift, box = min(page, Tile::kTokens);
  const int n_boxes = min(Tile::kTokens, work.kv_end - position + box - 1) / box;
  if (lane == 0) barrier.arrive_expect_bytes(n_boxes * box * Tile::kColumns * Tile::kLine);
  __syncwarp();
  if (lane >= n_boxes) return;
  const int first = position + lane * box;
  const int granule = static_cast<int>(work.pages[first >> args.page_shift]);
#pragma unroll
  for (int column = 0; column < Tile::kColumns; ++column) {
    copy_tensor_3d(to + column * Tile::kColumnBytes + lane * box * Tile::kLine, map,
                   Tile::kWidth * column, first & (page - 1), granule, barrier);
  }
#else
  constexpr int kRowChunks = Tile::kRowBytes / 16;
  const int n = min(Tile::kTokens, work.kv_end - position) * kRowChunks;
#pragma unroll 4
  for (int i = lane; i < n; i += 32) {
    const int token = i / kRowChunks, chunk = i % kRowChunks, at = position + token;
    const uint32_t granule = work.pages[at >> args.page_shift];
    copy_async_16(to + chunk / Tile::kChunks * Tile::kColumnBytes +
                      Tile::offset(token, chunk % Tile::kChunks),
                  row_at<Tile::kRowBytes>(args, granule, at) + 16 * chunk, true);
  }
  arrive_when_copied(barrier);
#endif
}

// The filling warp's whole life.
template <class Tile, int kStages>
__device__ inline void fill_ring(const LatentArgs& args, const CUtensorMap* map, uint32_t ring,
                                 RingBarriers<kStages>& barriers) {
  if constexpr (kHopper) prefetch_tensor_map(map);
  RingPlace<kStages> place;
  for (int i = first_work(args); i < last_work(args); ++i) {
    const CudaWork work = args.works[i];
    for (int position = work.kv_begin; position < work.kv_end; position += Tile::kTokens) {
      await_phase(barriers.empty[place.stage], place.parity ^ 1);
      copy_tile<Tile>(args, map, work, position, ring + place.stage * Tile::kBytes,
                      barriers.full[place.stage]);
      place.next();
    }
  }
  if constexpr (!kHopper) copy_async_wait<0>();
}

// A warp's view of the ring.
template <class Tile, int kStages>
class RingReader {
 public:
  __device__ RingReader(uint32_t ring, RingBarriers<kStages>& barriers)
      : ring_(ring), barriers_(barriers) {}
  // Returns where the next tile lies.
  __device__ uint32_t await() {
    await_phase(barriers_.full[place_.stage], place_.parity);
    return ring_ + place_.stage * Tile::kBytes;
  }
  // The tile has been read.
  __device__ void leave() {
    __syncwarp();
    if (threadIdx.x % 32 == 0) barriers_.empty[place_.stage].arrive();
    place_.next();
  }

 private:
  const uint32_t ring_;
  RingBarriers<kStages>& barriers_;
  RingPlace<kStages> place_;
};

}  // namespace ashlar::cuda
