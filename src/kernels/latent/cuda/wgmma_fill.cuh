#pragma once

// Shared memory of latent_wgmma, and the warps that fill its tiles: warp w of four owns half w / 2
// of the tiles w % 2, w % 2 + 2, ... of each work. Half 0 is columns 0 to 255 and the rotated ones,
// half 1 columns 256 to 511.

#include "kernels/cuda/f8.cuh"
#include "kernels/latent/cuda/tile.cuh"

namespace ashlar::cuda {

constexpr int kWgmmaRows = 64;
constexpr int kPairTile = 64;  // tokens
constexpr int kRopeColumn = 8;
using PairTile = RowTile<DType::bf16, kPairTile>;  // f16 too

struct WgmmaShared {
  std::byte queries[PairTile::kBytes];
  std::byte tiles[2][PairTile::kBytes];
  std::byte probs[kWgmmaRows * kPairTile * 2];
  float m[2][kWgmmaRows];
  float d[2][kWgmmaRows];
  float row_scale[kWgmmaRows];
  Barrier full[2][2];   // [tile][half]
  Barrier empty[2][2];  // the four warps of warpgroup `half` have done with it

  __device__ void init() {
    for (int i = 0; i < 4; ++i) full[i / 2][i % 2].init(1), empty[i / 2][i % 2].init(4);
    fence_barrier_init();
  }
};
static_assert(sizeof(WgmmaShared) <= 232448);

// Calls fill(work, position, parity) for every tile that is this warp's to fill.
template <class Fill>
__device__ inline void each_tile(const LatentArgs& args, int which, Fill fill) {
  uint32_t parity = 1;
  for (int i = args.queue[blockIdx.x]; i < args.queue[blockIdx.x + 1]; ++i) {
    const CudaWork work = args.works[i];
    for (int at = work.kv_begin + which * kPairTile; at < work.kv_end; at += 2 * kPairTile) {
      fill(work, at, parity);
      parity ^= 1;
    }
  }
}

// Rows of 16-bit elements: a tensor copy for each page and 64 columns.
__device__ inline void fill_copied(const LatentArgs& args, const CUtensorMap* map,
                                   WgmmaShared& shared) {
  const int warp = static_cast<int>(threadIdx.x) / 32 % 4,
            lane = static_cast<int>(threadIdx.x) % 32;
  const int which = warp % 2, half = warp / 2;
  const uint32_t tile = shared_address(shared.tiles[which]);
  Barrier& full = shared.full[which][half];
  each_tile(args, which, [&](const CudaWork& work, int at, uint32_t parity) {
    const int page = 1 << args.page_shift;
    const int n_boxes = min(kPairTile, work.kv_end - at + page - 1) >> args.page_shift;
    const int first = at + lane * page;
    const int granule = lane < n_boxes ? static_cast<int>(work.pages[first >> args.page_shift]) : 0;
    shared.empty[which][half].wait(parity);
    if (lane == 0) full.arrive_expect_bytes(n_boxes * page * PairTile::kLine * (half == 0 ? 5 : 4));
    __syncwarp();
    if (lane >= n_boxes) return;
    const uint32_t to = tile + lane * page * PairTile::kLine;
    for (int i = 0; i < 4; ++i) {
      const int column = 4 * half + i;
      copy_tensor_3d(to + column * PairTile::kColumnBytes, map, 64 * column, 0, granule, full);
    }
    if (half == 0)
      copy_tensor_3d(to + kRopeColumn * PairTile::kColumnBytes, map, 64 * kRopeColumn, 0, granule,
                     full);
  });
}

// Sixteen codes of FP8 as f16, to chunks `chunk` and `chunk` + 1 of a token's line. Lanes of odd
// columns store the second first: eight lanes then meet eight different banks.
template <DType kStored>
__device__ inline void store_widened(uint32_t column, int token, int chunk, bool odd,
                                     const uint4& codes) {
  uint32_t x[8];
  widen_f8<kStored>(codes.x, x[0], x[1]);
  widen_f8<kStored>(codes.y, x[2], x[3]);
  widen_f8<kStored>(codes.z, x[4], x[5]);
  widen_f8<kStored>(codes.w, x[6], x[7]);
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const bool second = (i == 1) != odd;
    const uint32_t to = column + PairTile::offset(token, chunk + (second ? 1 : 0));
    asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(second ? x[4] : x[0]),
                 "r"(second ? x[5] : x[1]), "r"(second ? x[6] : x[2]), "r"(second ? x[7] : x[3])
                 : "memory");
  }
}

// Of one tile: kLoads loads of 16 codes a lane, kLanes lanes a token, from code `from` of a row;
// tokens [first_token, ...). Tokens beyond the work become zeros.
template <DType kStored, int kLanes, int kLoads>
class WidenedPart {
 public:
  __device__ void load(const LatentArgs& args, const CudaWork& work, const uint32_t (&granules)[4],
                       int at, int first_token, int from) {
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      const int token = token_of(first_token, i), position = at + token;
      codes_[i] = make_uint4(0, 0, 0, 0);
      if (position >= work.kv_end) continue;
      const uint32_t granule = granules[(first_token + i * kTokens) / 16];
      codes_[i] = __ldg(reinterpret_cast<const uint4*>(row_at<kLatentQ>(args, granule, position) +
                                                       from + lane() % kLanes * 16));
    }
  }
  __device__ void store(uint32_t tile, int first_token, int first_column) const {
    const int at = lane() % kLanes, column = first_column + at / 4;
#pragma unroll
    for (int i = 0; i < kLoads; ++i)
      store_widened<kStored>(tile + column * PairTile::kColumnBytes, token_of(first_token, i),
                             at % 4 * 2, column % 2 != 0, codes_[i]);
  }

 private:
  static constexpr int kTokens = 32 / kLanes;  // of one load
  __device__ static int lane() { return static_cast<int>(threadIdx.x) % 32; }
  __device__ static int token_of(int first, int i) { return first + i * kTokens + lane() / kLanes; }
  uint4 codes_[kLoads];
};

constexpr int kLoads = 8;  // in flight, of a lane

// FP8 rows: loaded, widened to f16 and stored as the tensor copies would have.
template <DType kStored>
__device__ inline void fill_widened(const LatentArgs& args, WgmmaShared& shared) {
  const int warp = static_cast<int>(threadIdx.x) / 32 % 4;
  const int which = warp % 2, half = warp / 2;
  const uint32_t tile = shared_address(shared.tiles[which]);
  each_tile(args, which, [&](const CudaWork& work, int at, uint32_t parity) {
    uint32_t granules[4];  // of every 16 tokens
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int position = at + 16 * i;
      granules[i] = position < work.kv_end ? work.pages[position >> args.page_shift] : 0;
    }
    WidenedPart<kStored, 16, kLoads> part;
    part.load(args, work, granules, at, 0, 256 * half);
    shared.empty[which][half].wait(parity);
#pragma unroll
    for (int token = 0; token < kPairTile; token += 2 * kLoads) {
      part.store(tile, token, 4 * half);
      if (token + 2 * kLoads < kPairTile)
        part.load(args, work, granules, at, token + 2 * kLoads, 256 * half);
    }
    if (half == 0) {
      WidenedPart<kStored, 4, 8> rope;
      rope.load(args, work, granules, at, 0, kLatentWidth);
      rope.store(tile, 0, kRopeColumn);
    }
    fence_proxy_async();
    __syncwarp();
    if (threadIdx.x % 32 == 0) shared.full[which][half].arrive();
  });
}

}  // namespace ashlar::cuda
