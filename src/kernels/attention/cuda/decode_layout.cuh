#pragma once

// What a variant of the decode body is made of, and its shared memory (Hopper and later).
//
// A block is four warps that multiply and one that fetches. Tokens are the rows of both products,
// queries their columns: S^T = K Q^T, of which each warp takes 16 tokens of a tile of 64, and
// O^T = V^T P^T, of which each warp takes a quarter of the values for all tokens. So eight queries
// leave no rows empty, and no sums are spread over warps: probabilities meet in shared memory once a
// tile, and a split's end is a matter of registers.

#include "kernels/attention/cuda/mma_layout.cuh"
#include "kernels/cuda/hopper.cuh"

namespace ashlar::cuda {

constexpr int kDecodeRows = 16;  // queries of a work, in one or two column tiles of eight
constexpr int kDecodeTile = 64;  // tokens
constexpr int kDecodeWarps = 4;  // that multiply
constexpr int kMostStages = 12;

template <DType kType_, int kKeyWidth_, int kValueWidth_, bool kTokenScales_>
struct DecodeLayout {
  static constexpr DType kType = kType_;
  static constexpr int kKeyWidth = kKeyWidth_;
  static constexpr int kValueWidth = kValueWidth_;
  static constexpr bool kF8 = is_f8(kType);
  static constexpr bool kTokenScales = kTokenScales_;
  using Half = std::conditional_t<kType == DType::bf16, __nv_bfloat16, __half>;
  static constexpr int kThreads = (kDecodeWarps + 1) * kWarp;

  // Rows lie in lines of 64 elements, [line][token][64], as the copies of a tensor map's boxes lay
  // them: 16-byte chunks of a line permuted by bits of the token.
  static constexpr int kElement = kF8 ? 1 : 2;
  static constexpr int kLineBytes = 64 * kElement;
  static constexpr int kKeyLines = kKeyWidth / 64;
  static constexpr int kValueLines = kValueWidth / 64;
  static constexpr int kKeyBytes = kDecodeTile * kKeyWidth * kElement;
  static constexpr int kValueBytes = kDecodeTile * kValueWidth * kElement;
  static constexpr int kStageBytes = kKeyBytes + kValueBytes;
  static_assert(kKeyWidth % 64 == 0 && kValueWidth % 64 == 0);

  static constexpr int kSteps = kKeyWidth / 16;                        // of a dot product
  static constexpr int kValueTiles = kValueWidth / kDecodeWarps / 16;  // of 16 values, of a warp
  static constexpr int kQueryPitch = kKeyWidth * 2 + 16;
};

// Shared memory behind the rings of K and of V.
template <class L>
struct DecodeShared {
  std::byte probabilities[2][kDecodeRows * kDecodeTile * 2];  // [query][token], permuted chunks
  std::byte queries[2][kDecodeRows * L::kQueryPitch];
  float scales[L::kTokenScales ? kMostStages : 1][2][kDecodeTile];  // of K, of V
  float highest[kDecodeRows][kDecodeWarps];
  float largest_scale[kDecodeRows][kDecodeWarps];
  float sums[kDecodeRows][kDecodeWarps];
  CudaWork works[2];
  Barrier work_full[2], work_empty[2];
  Barrier key_full[kMostStages], key_empty[kMostStages];
  Barrier value_full[kMostStages], value_empty[kMostStages];

  __device__ void init_barriers(int stages) {
    for (int i = 0; i < 2; ++i) work_full[i].init(1), work_empty[i].init(kDecodeWarps);
    for (int i = 0; i < stages; ++i) {
      key_full[i].init(1), key_empty[i].init(kDecodeWarps);
      value_full[i].init(1), value_empty[i].init(kDecodeWarps);
    }
    fence_barrier_init();
  }
};

struct DecodeArgs : MmaArgs {
  int stages;  // tiles in the rings; a row's bits do not depend on it
};

// How many tiles fit in `bytes` of a block's shared memory.
template <class L>
constexpr int stages_in(int bytes) {
  const int stages = (bytes - 1024 - static_cast<int>(sizeof(DecodeShared<L>))) / L::kStageBytes;
  return stages < kMostStages ? stages : kMostStages;
}

// A place in a ring of `n`, and how often it was walked.
struct DecodePlace {
  int slot = 0;
  uint32_t parity = 0;
  __device__ void next(int n) {
    if (++slot == n) slot = 0, parity ^= 1;
  }
};

}  // namespace ashlar::cuda
