#pragma once

// A tile of rows in shared memory: columns of 64 or 128 elements, each [tokens][kWidth] in lines of
// 128 or 64 bytes, as the tensor copies lay them: 16-byte chunks of a line are permuted by an
// exclusive or with bits of the token, so that eight tokens of one chunk meet eight different
// banks. Of five columns of 128, the last is filled by half; a copy of 64 bytes costs as much as
// one of 128.

#include "kernels/cuda/hopper.cuh"
#include "kernels/latent/cuda/rows.cuh"

namespace ashlar::cuda {

template <DType kStored, int kTokens_, int kWidth_ = 64>
struct RowTile {
  static constexpr int kTokens = kTokens_;
  static constexpr int kWidth = kWidth_;
  static constexpr int kElement = static_cast<int>(size_of(kStored));
  static constexpr int kRowBytes = kLatentQ * kElement;
  static constexpr int kColumns = (kLatentQ + kWidth - 1) / kWidth;
  static constexpr int kLine = kWidth * kElement;
  static constexpr int kChunks = kLine / 16;
  static constexpr int kColumnBytes = kTokens * kLine;
  static constexpr int kBytes = kColumns * kColumnBytes;

  __device__ static constexpr int permutation(int token) {
    return kLine == 64 ? token >> 1 & 3 : token & 7;
  }
  __device__ static constexpr int offset(int token, int chunk) {
    return token * kLine + 16 * (chunk ^ permutation(token));
  }
};

// Zeros for tokens [begin, kTokens), by `threads` threads: what must not be seen may be NaN.
template <class Tile>
__device__ inline void clear_tokens(uint32_t tile, int begin, int thread, int threads) {
  const int n = (Tile::kTokens - begin) * Tile::kChunks;
  for (int i = thread; i < n; i += threads) {
#pragma unroll
    for (int column = 0; column < Tile::kColumns; ++column) {
      const uint32_t to = tile + column * Tile::kColumnBytes + begin * Tile::kLine + 16 * i;
      write_shared_16(to, {0, 0, 0, 0});
    }
  }
}

}  // namespace ashlar::cuda
