#pragma once

// Shared memory of latent_wgmma, and the warps that fill its tiles: warp w of four owns half w / 2
// of the tiles w % 2, w % 2 + 2, ... of each work. Half 0 is columns 0 to 255 and the rotated ones,
// half 1 columns 256 to 511.

#include "kernels/latent/cuda/wgmma_splits.cuh"

namespace ashlar::cuda {

constexpr int kPairTile = 64;  // tokens
constexpr int kRopeColumn = 8;
using PairTile = RowTile<DType::bf16, kPairTile>;  // f16 too

struct WgmmaShared {
  std::byte queries[PairTile::kBytes];
  std::byte tiles[2][PairTile::kBytes];
  std::byte probs[kWgmmaRows * kPairTile * 2];
  float m[2][kWgmmaRows];
  float d[2][kWgmmaRows];
  CudaWork work;                        // of the two warpgroups that multiply
  Barrier full[2][PairTile::kColumns];  // [tile][64 columns]
  // [tile][half]: the four warps of warpgroup `half` have done with it; with half 0 of the second
  // tile, where the second's probabilities lie, those of both.
  Barrier empty[2][2];

  __device__ void init() {
    for (int i = 0; i < 4; ++i) empty[i / 2][i % 2].init(i == 2 ? 8 : 4);
    for (int i = 0; i < 2 * PairTile::kColumns; ++i)
      full[i / PairTile::kColumns][i % PairTile::kColumns].init(1);
    fence_barrier_init();
  }
};
static_assert(sizeof(WgmmaShared) <= 232448);

// Calls fill(work, position, parity) for every tile that is this warp's to fill.
template <class Fill>
__device__ inline void each_tile(const LatentArgs& args, int which, Fill fill) {
  uint32_t parity = 1;
  for (int i = first_work(args); i < last_work(args); ++i) {
    const CudaWork work = args.works[i];
    for (int at = work.kv_begin + which * kPairTile; at < work.kv_end; at += 2 * kPairTile) {
      fill(work, at, parity);
      parity ^= 1;
    }
  }
}

// The columns of a half, in the order in which they are wanted.
template <class Do>
__device__ inline void each_column(int half, Do act) {
#pragma unroll
  for (int i = 0; i < 4; ++i) act(4 * half + i);
  if (half == 0) act(kRopeColumn);
}

// Rows of 16-bit elements: a tensor copy for each page and 64 columns.
__device__ inline void fill_copied(const LatentArgs& args, const CUtensorMap* map,
                                   WgmmaShared& shared) {
  const int warp = static_cast<int>(threadIdx.x) / 32 % 4,
            lane = static_cast<int>(threadIdx.x) % 32;
  const int which = warp % 2, half = warp / 2;
  const uint32_t tile = shared_address(shared.tiles[which]);
  each_tile(args, which, [&](const CudaWork& work, int at, uint32_t parity) {
    const int page = 1 << args.page_shift;
    const int n_boxes = min(kPairTile, work.kv_end - at + page - 1) >> args.page_shift;
    const int first = at + lane * page;
    const int granule = lane < n_boxes ? static_cast<int>(work.pages[first >> args.page_shift]) : 0;
    shared.empty[which][half].wait(parity);
    each_column(half, [&](int column) {
      Barrier& full = shared.full[which][column];
      if (lane == 0) full.arrive_expect_bytes(n_boxes * page * PairTile::kLine);
      __syncwarp();
      if (lane < n_boxes)
        copy_tensor_3d(tile + column * PairTile::kColumnBytes + lane * page * PairTile::kLine, map,
                       64 * column, 0, granule, full);
    });
    if (half == 0) prefetch_pages<PairTile>(args, work, at + 2 * kPairTile);
  });
}

}  // namespace ashlar::cuda
