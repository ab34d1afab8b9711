#pragma once

// What a variant of the decode body is made of, and its shared memory (Hopper and later).
//
// A block, alone on its multiprocessor, is eight warps that multiply and one that fetches; where
// works are whole windows, or values few, four multiply and two blocks share a multiprocessor.
// Tokens are the rows of the first product, queries its columns: S^T = K Q^T, of which each warp
// takes 16 tokens of a tile; and O^T = V^T P^T, of which each warp takes 16 values (or 32) for all
// tokens. So eight queries leave no rows empty, and no sums are spread over warps: probabilities
// meet in shared memory once a tile, and a split's end is a matter of registers.

#include <algorithm>

#include "kernels/attention/cuda/mma_layout.cuh"
#include "kernels/cuda/hopper.cuh"

namespace ashlar::cuda {

constexpr int kDecodeRows = 16;  // queries of a work, in one or two column tiles of eight
constexpr int kMostStages = 8;

// A tile of rows as tensor copies lay it: lines of 128 bytes (64 where a row is no multiple) whose
// 16-byte chunks are permuted by bits of the line's address. An odd number of whole lines lie row
// after row, as in memory, others line after line: so eight rows read at one column always meet
// eight different banks.
template <int kRowBytes, int kTile>
struct RowLines {
  static constexpr int kLine = kRowBytes % 128 == 0 ? 128 : 64;
  static constexpr int kLines = kRowBytes / kLine;
  static constexpr bool kRowAfterRow = kLines == 1 || (kLine == 128 && kLines % 2 == 1);
  static constexpr int kCopies = kRowAfterRow ? 1 : kLines;  // that bring a box of tokens
  static constexpr int kBytes = kTile * kRowBytes;
  static_assert(kLine * kLines == kRowBytes);

  __device__ static constexpr int begin(int token, int line) {
    return kRowAfterRow ? token * kRowBytes + line * kLine : (line * kTile + token) * kLine;
  }
  // Of 16-byte chunk `chunk` of a row.
  __device__ static constexpr int offset(int token, int chunk) {
    constexpr int kChunks = kLine / 16;
    const int at = begin(token, chunk / kChunks);
    return at + ((chunk % kChunks ^ (at >> 7 & (kChunks - 1))) << 4);
  }
};

template <DType kType_, int kKeyWidth_, int kValueWidth_, bool kTokenScales_, bool kWhole_>
struct DecodeLayout {
  static constexpr DType kType = kType_;
  static constexpr int kKeyWidth = kKeyWidth_;
  static constexpr int kValueWidth = kValueWidth_;
  static constexpr bool kF8 = is_f8(kType);
  static constexpr bool kTokenScales = kTokenScales_;
  using Half = std::conditional_t<kType == DType::bf16, __nv_bfloat16, __half>;
  static constexpr bool kWhole = kWhole_;  // works hold all splits of their rows, a single one
  static constexpr int kWarps = kWhole || kValueWidth < 128 ? 4 : 8;  // that multiply
  static constexpr int kTile = kWarps * 16;                           // tokens
  // One more fetches; beside eight it is one of four that lend them registers.
  static constexpr bool kLends = kWarps == 8;
  static constexpr int kThreads = (kWarps + (kLends ? 4 : 1)) * kWarp;
  static constexpr int kBlocksPerSm = kWarps == 8 ? 1 : 2;
  static constexpr int kValueTiles = kValueWidth / 16 / kWarps;  // of 16 values, of a warp
  static_assert(kWarps == 4 || kWarps == 8);

  static constexpr int kElement = kF8 ? 1 : 2;
  using Keys = RowLines<kKeyWidth * kElement, kTile>;
  using Values = RowLines<kValueWidth * kElement, kTile>;
  static constexpr int kStageBytes = Keys::kBytes + Values::kBytes;

  static constexpr int kSteps = kKeyWidth / 16;  // of a dot product
  static constexpr int kQueryPitch = kKeyWidth * 2 + 16;
  static constexpr int kProbabilityPitch = kTile * 2;
};

// Shared memory behind the rings of K and of V.
template <class L>
struct DecodeShared {
  std::byte probabilities[2]
                         [kDecodeRows * L::kProbabilityPitch];  // [query][token], permuted chunks
  std::byte queries[2][kDecodeRows * L::kQueryPitch];
  float scales[L::kTokenScales ? kMostStages : 1][2][L::kTile];  // of K, of V
  alignas(16) float highest[kDecodeRows][L::kWarps];
  alignas(16) float largest_scale[kDecodeRows][L::kWarps];
  alignas(16) float sums[kDecodeRows][L::kWarps];
  CudaWork works[2];
  Barrier work_full[2], work_empty[2];
  Barrier key_full[kMostStages], key_empty[kMostStages];
  Barrier value_full[kMostStages], value_empty[kMostStages];

  // By one warp.
  __device__ void init(int lane) {
    if (lane < 2) work_full[lane].init(1), work_empty[lane].init(L::kWarps);
    if (lane < kMostStages) {
      key_full[lane].init(L::kTokenScales ? 1 + kWarp : 1), key_empty[lane].init(L::kWarps);
      value_full[lane].init(1), value_empty[lane].init(L::kWarps);
    }
    fence_barrier_init();
  }
};

// What a block may take, without the system's share and the alignment of its start.
template <class L>
constexpr int kDecodeBytes = 228 * 1024 / L::kBlocksPerSm - 2 * 1024;

// How many tiles of K and of V fit.
template <class L>
constexpr int kStages = std::min(kMostStages,
                                 (kDecodeBytes<L> - static_cast<int>(sizeof(DecodeShared<L>))) /
                                     L::kStageBytes);

// A place in a ring of `n`, and how often it was walked.
struct DecodePlace {
  int slot = 0;
  uint32_t parity = 0;
  __device__ void next(int n) {
    if (++slot == n) slot = 0, parity ^= 1;
  }
};

}  // namespace ashlar::cuda
