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
  });
}

// Sixteen codes of FP8 as f16, to the two chunks at `to` and `to` ^ 16.
template <DType kStored>
__device__ inline void store_widened(uint32_t to, const uint4& codes) {
  uint32_t x[8];
  widen_f8<kStored>(codes.x, x[0], x[1]);
  widen_f8<kStored>(codes.y, x[2], x[3]);
  widen_f8<kStored>(codes.z, x[4], x[5]);
  widen_f8<kStored>(codes.w, x[6], x[7]);
  asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(x[0]), "r"(x[1]),
               "r"(x[2]), "r"(x[3])
               : "memory");
  asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(to ^ 16), "r"(x[4]), "r"(x[5]),
               "r"(x[6]), "r"(x[7])
               : "memory");
}

// Eight loads of 16 codes a lane: 16 tokens of 256 columns, two a load, or 64 tokens of the 64
// rotated ones, eight a load. Four lanes share 64 columns of a token and the next four have the
// token after, so that eight lanes' stores meet eight different banks.
template <DType kStored, int kTokens>
struct WidenedPart {
  uint4 codes[8];

  // Of this lane, in a load: the token, and the 64 columns.
  __device__ static int token(int lane) { return kTokens == 2 ? lane / 4 % 2 : lane / 4; }
  __device__ static int column(int lane) { return kTokens == 2 ? lane / 8 : 0; }

  // `from`: this lane's first codes; `left` tokens of the work remain from there, beyond are zeros.
  __device__ void load(const std::byte* from, int left) {
#pragma unroll
    for (int i = 0; i < 8; ++i) load(i, from + i * kTokens * kLatentQ, left);
  }
  __device__ void load(int i, const std::byte* from, int left) {
    codes[i] = make_uint4(0, 0, 0, 0);
    if (i * kTokens < left) {
      asm volatile("ld.global.nc.v4.u32 {%0, %1, %2, %3}, [%4];"  // here, not where it is used
                   : "=r"(codes[i].x), "=r"(codes[i].y), "=r"(codes[i].z), "=r"(codes[i].w)
                   : "l"(from));
    }
  }
  // `tile`: the first of the part's columns.
  __device__ void store(uint32_t tile, int first_token, int lane) const {
    const uint32_t to = tile + column(lane) * PairTile::kColumnBytes +
                        PairTile::offset(first_token + token(lane), lane % 4 * 2);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const int rows = i * kTokens;  // a multiple of 2, so it changes the permutation's upper bits
      store_widened<kStored>((to ^ 16 * (rows & 7)) + rows * PairTile::kLine, codes[i]);
    }
  }
};

// Fills a half of a tile of FP8 rows, widened to f16 and stored as the tensor copies would have.
template <DType kStored>
class WidenedHalf {
  using Part = WidenedPart<kStored, 2>;
  using Rope = WidenedPart<kStored, 8>;

 public:
  __device__ WidenedHalf(const LatentArgs& args, int half)
      : args_(args), lane_(static_cast<int>(threadIdx.x) % 32), half_(half) {}

  __device__ void find(const CudaWork& work, int at) {
    at_ = at, end_ = work.kv_end;
#pragma unroll
    for (int i = 0; i < 4; ++i)
      granules_[i] = at + 16 * i < end_ ? work.pages[(at + 16 * i) >> args_.page_shift] : 0;
  }
  __device__ void take(const WidenedHalf& other) {
    at_ = other.at_;
#pragma unroll
    for (int i = 0; i < 4; ++i) granules_[i] = other.granules_[i];
  }
  // Asks the L2 cache for the rows found, a lane 16 tokens.
  __device__ void prefetch() const {
    if (half_ != 0 || lane_ >= 4) return;
    const uint32_t granule = lane_ < 2    ? lane_ == 0 ? granules_[0] : granules_[1]
                                : lane_ == 2 ? granules_[2]
                                          : granules_[3];
    const int position = at_ + 16 * lane_;
    if (position >= end_) return;
    prefetch_bulk(row_at<kLatentQ>(args_, granule, position),
                  static_cast<uint32_t>(min(16, end_ - position) * kLatentQ));
  }
  // Fills the tile found once it is empty; meanwhile finds the one after, `next`, at `next_at`.
  __device__ void fill(uint32_t tile, Barrier& empty, uint32_t parity, const CudaWork& work,
                       int next_at, WidenedHalf& next) {
    Part a, b;
    load(a, 0), load(b, 1);
    next.find(work, next_at);
    empty.wait(parity);
    store(a, tile, 0);
    load(a, 2);
    store(b, tile, 1);
    load(b, 3);
    next.prefetch();
    store(a, tile, 2);
    if (half_ == 0) {
      Rope rope;
      const int token = Rope::token(lane_);
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        rope.load(i, from(granules_[i / 2], 8 * i + token) + kLatentWidth + lane_ % 4 * 16,
                  end_ - at_ - token);
      }
      store(b, tile, 3);
      rope.store(tile + kRopeColumn * PairTile::kColumnBytes, 0, lane_);
    } else {
      store(b, tile, 3);
    }
  }

 private:
  __device__ const std::byte* from(uint32_t granule, int token) const {
    return row_at<kLatentQ>(args_, granule, at_ + token);
  }
  __device__ void load(Part& part, int i) const {
    const int token = 16 * i + Part::token(lane_);
    const int code = 256 * half_ + 64 * Part::column(lane_) + lane_ % 4 * 16;
    part.load(from(granules_[i], token) + code, end_ - at_ - token);
  }
  __device__ void store(const Part& part, uint32_t tile, int i) const {
    part.store(tile + 4 * half_ * PairTile::kColumnBytes, 16 * i, lane_);
  }

  const LatentArgs& args_;
  const int lane_;
  const int half_;
  int at_ = 0;
  int end_ = 0;
  uint32_t granules_[4] = {};  // of every 16 tokens
};

template <DType kStored>
__device__ inline void fill_widened(const LatentArgs& args, WgmmaShared& shared) {
  constexpr int kAhead = 2 * kPairTile;  // where this warp's next tile lies
  const int warp = static_cast<int>(threadIdx.x) / 32 % 4;
  const int which = warp % 2, half = warp / 2;
  const uint32_t tile = shared_address(shared.tiles[which]);
  uint32_t parity = 1;
  for (int i = first_work(args); i < last_work(args); ++i) {
    const CudaWork work = args.works[i];
    WidenedHalf<kStored> here(args, half), next(args, half);
    here.find(work, work.kv_begin + which * kPairTile);
    here.prefetch();
    for (int at = work.kv_begin + which * kPairTile; at < work.kv_end; at += kAhead) {
      here.fill(tile, shared.empty[which][half], parity, work, at + kAhead, next);
      here.take(next);
      parity ^= 1;
      fence_proxy_async();
      __syncwarp();
      if (threadIdx.x % 32 == 0)
        each_column(half, [&](int column) { shared.full[which][column].arrive(); });
    }
  }
}

}  // namespace ashlar::cuda
