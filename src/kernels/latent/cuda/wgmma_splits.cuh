#pragma once

// What the warpgroup bodies share, and the walk through one work's splits, which the 16-bit body
// does by itself: through this function it spills registers and is 2 to 4 % slower.

#include "kernels/latent/cuda/tile.cuh"

namespace ashlar::cuda {

constexpr int kWgmmaRows = 64;

// What a row's scores are measured against (m of its state) rises only when one exceeds it by
// 2^kSlack, which f16 weights have room for: sums need scaling seldom, and stand for the same.
constexpr float kSlack = 8;
__device__ inline float raised(float reference, float score) {
  return score <= reference + kSlack ? reference : score;
}

// Asks the L2 cache for the tile at `at`, a lane each page of it.
template <class Tile>
__device__ inline void prefetch_pages(const LatentArgs& args, const CudaWork& work, int at) {
  const int page = 1 << args.page_shift;
  const int first = at + static_cast<int>(threadIdx.x) % 32 * page;
  if (first >= min(work.kv_end, at + Tile::kTokens)) return;
  prefetch_bulk(row_at<Tile::kRowBytes>(args, work.pages[first >> args.page_shift], first),
                static_cast<uint32_t>(min(page, work.kv_end - first) * Tile::kRowBytes));
}

// `block` sums splits from nothing and keeps the total of those before; all its threads come here.
template <class Block>
__device__ inline void walk_splits(const LatentArgs& args, const CudaWork& work, Block& block) {
  int state = work.state;
  bool alone = true;  // no split before this one
  for (int at = work.kv_begin; at < work.kv_end;) {
    const int end = min(work.kv_end, (at / args.kv_split + 1) * args.kv_split);
    block.sum_split(at, end);
    at = end;
    if (!work.first) {
      block.store_state(work, state++);
    } else {
      if (!alone) block.add_total();
      if (at < work.kv_end) block.put_total();
      alone = false;
    }
  }
  if (work.first) state >= 0 ? block.store_state(work, state) : block.store_rows(work);
}

}  // namespace ashlar::cuda
