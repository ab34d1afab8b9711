#pragma once

// What a variant of the decode body is made of, and its shared memory (Hopper and later).
//
// A block, alone on its multiprocessor, is eight warps that multiply and one that fetches (four
// where values are few). Tokens are the rows of the first product, queries its columns: S^T = K Q^T,
// of which each warp takes 16 tokens of a tile; and O^T = V^T P^T, of which each warp takes 16
// values for all tokens. So eight queries leave no rows empty, and no sums are spread over warps:
// probabilities meet in shared memory once a tile, and a split's end is a matter of registers.

#include <algorithm>

#include "kernels/attention/cuda/mma_layout.cuh"
#include "kernels/cuda/hopper.cuh"

namespace ashlar::cuda {

constexpr int kDecodeRows = 16;  // queries of a work, in one or two column tiles of eight
constexpr int kMostStages = 8;

template <DType kType_, int kKeyWidth_, int kValueWidth_, bool kTokenScales_>
struct DecodeLayout {
  static constexpr DType kType = kType_;
  static constexpr int kKeyWidth = kKeyWidth_;
  static constexpr int kValueWidth = kValueWidth_;
  static constexpr bool kF8 = is_f8(kType);
  static constexpr bool kTokenScales = kTokenScales_;
  using Half = std::conditional_t<kType == DType::bf16, __nv_bfloat16, __half>;
  static constexpr int kWarps = kValueWidth / 16;  // that multiply
  static constexpr int kTile = kWarps * 16;        // tokens
  // The fetching warp is one of four, so that it can lend its registers to those that multiply.
  static constexpr int kThreads = (kWarps + 4) * kWarp;
  static constexpr bool kLends = kWarps == 8;
  static_assert(kWarps == 4 || kWarps == 8);

  // Rows lie in lines of 64 elements, [line][token][64], as the copies of a tensor map's boxes lay
  // them: 16-byte chunks of a line permuted by bits of the token.
  static constexpr int kElement = kF8 ? 1 : 2;
  static constexpr int kLineBytes = 64 * kElement;
  static constexpr int kKeyLines = kKeyWidth / 64;
  static constexpr int kValueLines = kValueWidth / 64;
  static constexpr int kKeyBytes = kTile * kKeyWidth * kElement;
  static constexpr int kValueBytes = kTile * kValueWidth * kElement;
  static constexpr int kStageBytes = kKeyBytes + kValueBytes;
  static_assert(kKeyWidth % 64 == 0 && kValueWidth % 64 == 0);

  static constexpr int kSteps = kKeyWidth / 16;  // of a dot product
  static constexpr int kQueryPitch = kKeyWidth * 2 + 16;
  static constexpr int kProbabilityPitch = kTile * 2;
};

// Shared memory behind the rings of K and of V.
template <class L>
struct DecodeShared {
  std::byte probabilities[2][kDecodeRows * L::kProbabilityPitch];  // [query][token], permuted chunks
  std::byte queries[2][kDecodeRows * L::kQueryPitch];
  float scales[L::kTokenScales ? kMostStages : 1][2][L::kTile];  // of K, of V
  float highest[kDecodeRows][L::kWarps];
  float largest_scale[kDecodeRows][L::kWarps];
  float sums[kDecodeRows][L::kWarps];
  CudaWork works[2];
  Barrier work_full[2], work_empty[2];
  Barrier key_full[kMostStages], key_empty[kMostStages];
  Barrier value_full[kMostStages], value_empty[kMostStages];

  __device__ void init_barriers(int stages) {
    for (int i = 0; i < 2; ++i) work_full[i].init(1), work_empty[i].init(L::kWarps);
    for (int i = 0; i < stages; ++i) {
      key_full[i].init(L::kTokenScales ? 1 + kWarp : 1), key_empty[i].init(L::kWarps);
      value_full[i].init(1), value_empty[i].init(L::kWarps);
    }
    fence_barrier_init();
  }
};

// What a block may take, without the alignment of its start.
constexpr int kDecodeBytes = 227 * 1024 - 1024;

// How many tiles of K and of V fit.
template <class L>
constexpr int kStages = std::min(kMostStages, (kDecodeBytes - static_cast<int>(
                                                   sizeof(DecodeShared<L>))) / L::kStageBytes);

// A place in a ring of `n`, and how often it was walked.
struct DecodePlace {
  int slot = 0;
  uint32_t parity = 0;
  __device__ void next(int n) {
    if (++slot == n) slot = 0, parity ^= 1;
  }
};

}  // namespace ashlar::cuda
