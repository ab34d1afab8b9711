#pragma once

// What the two teams of the mma body share: how rows of a type are multiplied, and the hand-over of
// probabilities from the team that scores to the team that adds values up.

#include "kernels/attention/cuda/state.cuh"
#include "kernels/cuda/f8.cuh"
#include "kernels/latent/cuda/ring.cuh"

namespace ashlar::cuda {

constexpr int kTeamWarps = 8;
constexpr int kTeamThreads = 32 * kTeamWarps;
constexpr int kMmaThreads = 2 * kTeamThreads + 128;  // four warps more, of which one fills the ring
constexpr int kMmaRows = 16;
constexpr int kMmaHands = 3;     // tiles of probabilities on their way
constexpr int kEarlyStages = 2;  // before Hopper, where a block has 163 KiB of shared memory

// How rows of a type are laid out and multiplied.
template <class Query, DType kStored>
struct MmaType {
  static constexpr bool kF8 = is_f8(kStored);
  using Half = std::conditional_t<kF8, __half, Query>;  // products
  using Tile = RowTile<kStored, kF8 ? 64 : 32, kF8 ? 128 : 64>;
  static constexpr int kStages = kHopper ? 4 : kEarlyStages;
  static constexpr int kGroups = Tile::kTokens / 16;        // warps that share a part of the width
  static constexpr int kParts = kTeamWarps / kGroups;       // of the width
  static constexpr int kLineParts = Tile::kWidth / 64;      // 64 columns each
  static constexpr int kChunks = 64 * Tile::kElement / 16;  // of 64 columns
  static constexpr int kPairs = kLatentQ / 64;              // of chunks, in a part
  static constexpr int kPairSteps = kF8 ? 2 : 1;            // of 16 dims, in a pair of chunks
  static constexpr int kSteps = kPairs * kPairSteps;        // in a part
  static_assert(2 * kParts == kChunks);  // a part takes a pair of every 64 columns
};

// One tile's probabilities.
template <int kTokens>
struct Hand {
  static constexpr int kStride = kTokens + 8;  // eight rows' chunks meet eight different banks
  uint16_t probs[kMmaRows][kStride];
  float factor[kMmaRows];  // of what the rows hold
  float m[kMmaRows];       // of the split, with its last tile
  float d[kMmaRows];
};

template <class Type>
struct MmaShared {
  static constexpr int kTokens = Type::Tile::kTokens;
  static constexpr int kScoreStride = kTokens + 8;  // floats
  RingBarriers<Type::kStages> ring;
  Barrier given[kMmaHands];
  Barrier taken[kMmaHands];
  alignas(16) Hand<kTokens> hands[kMmaHands];
  float scores[2][Type::kParts][kMmaRows][kScoreStride];  // sums over parts of the width, two tiles
  float largest[Type::kParts][kMmaRows];                  // of a row's queries
  float4 total[9][kTeamThreads];                          // the value team's sums of groups

  __device__ void init() {
    ring.init(2 * kTeamWarps);
    for (int i = 0; i < kMmaHands; ++i) given[i].init(kTeamWarps), taken[i].init(kTeamWarps);
    if constexpr (kHopper) fence_barrier_init();
  }
};

template <class Type>
constexpr int mma_shared_bytes(bool hopper) {
  return (hopper ? Type::kStages : kEarlyStages) * Type::Tile::kBytes +
         static_cast<int>(sizeof(MmaShared<Type>));
}

static_assert(mma_shared_bytes<MmaType<__half, DType::f16>>(true) <= 232448 &&
              mma_shared_bytes<MmaType<__half, DType::f8e4m3>>(true) <= 232448 &&
              mma_shared_bytes<MmaType<__half, DType::f16>>(false) <= 166912 &&
              mma_shared_bytes<MmaType<__half, DType::f8e4m3>>(false) <= 166912);

}  // namespace ashlar::cuda
