#pragma once

// A tile of rows in shared memory: nine columns of 64 elements, each [tokens][64] in lines of 128
// bytes (FP8: 64), as the tensor copies lay them: 16-byte chunks of a line are permuted by an
// exclusive or with bits of the token, so that eight tokens of one chunk meet eight different
// banks.

#include "kernels/cuda/hopper.cuh"
#include "kernels/latent/cuda/rows.cuh"

namespace ashlar::cuda {

template <DType kStored, int kTokens_>
struct RowTile {
  static constexpr int kTokens = kTokens_;
  static constexpr int kElement = static_cast<int>(size_of(kStored));
  static constexpr int kRowBytes = kLatentQ * kElement;
  static constexpr int kColumns = kLatentQ / 64;
  static constexpr int kLine = 64 * kElement;
  static constexpr int kChunks = kLine / 16;
  static constexpr int kColumnBytes = kTokens * kLine;
  static constexpr int kBytes = kColumns * kColumnBytes;

  __device__ static constexpr int permutation(int token) {
    return kElement == 1 ? token >> 1 & 3 : token & 7;
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
      asm volatile("st.shared.v4.b32 [%0], {%1, %1, %1, %1};" ::"r"(to), "r"(0) : "memory");
    }
  }
}

}  // namespace ashlar::cuda
