#pragma once

// The numbers and types of one prefill kernel, what it is given, and its shared memory.

#include "kernels/attention/cuda/attention_cuda.h"
#include "kernels/cuda/hopper.cuh"

namespace ashlar::cuda {

constexpr int kWarp = 32;
constexpr int kWarpgroup = 128;
constexpr int kChunk = 64;        // columns of a tile that lie together: 128 bytes, swizzled
constexpr int kChunkBytes = 128;  // of one row of a chunk

// A tile in shared memory is [chunks][rows][kChunkBytes]. Widths are whole chunks; a tensor may be
// narrower, copies then fill up with zeros.
template <class QHalf_, DType kStored_, int kKWidth_, int kVWidth_, int kKv_, int kStages_,
          int kQSlots_, int kStaged_ = 8>
struct PrefillPolicy {
  using QHalf = QHalf_;                       // of q and out
  static constexpr DType kStored = kStored_;  // of pages
  static constexpr bool kWiden = is_f8(kStored);
  using Half = std::conditional_t<kWiden, __half, QHalf>;  // of products

  static constexpr int kKWidth = kKWidth_;
  static constexpr int kVWidth = kVWidth_;
  static constexpr int kKv = kKv_;          // tokens of K and V a tile holds
  static constexpr int kStages = kStages_;  // tiles of K, and of V, in flight
  static constexpr int kQSlots = kQSlots_;
  // The tokens of a page that one copy brings, at most: windows want little, others few copies.
  static constexpr int kBoxTokens = kQSlots > 1 ? 16 : 64;
  static constexpr int kKChunks = kKWidth / kChunk;
  static constexpr int kVChunks = kVWidth / kChunk;

  static constexpr int kGroups = 2;  // warpgroups that multiply, of 64 rows each
  static constexpr int kRows = 64 * kGroups;
  static constexpr int kThreads = (kGroups + 1) * kWarpgroup;
  // Of each thread; the three groups share 504 a lane. Widening needs some to load with.
  static constexpr int kMathRegisters = kWiden ? 200 : 232;
  static constexpr int kLoadRegisters = kWiden ? 104 : 40;

  static constexpr int kStaged = kWiden ? kStaged_ : 0;  // FP8: 16 codes of each loading thread

  static constexpr int kQBytes = kKChunks * kRows * kChunkBytes;
  static constexpr int kKBytes = kKChunks * kKv * kChunkBytes;
  static constexpr int kVBytes = kVChunks * kKv * kChunkBytes;

  static_assert(kKWidth % kChunk == 0 && kVWidth % kChunk == 0);
  static_assert(kKv == 64 || kKv == 128);
};

// What a launch gives the kernel, beside the tensor maps of q, K and V.
struct PrefillParams {
  const AttnSeq* seqs = nullptr;
  const CudaWork* works = nullptr;
  int32_t* next = nullptr;  // the next work to take; 0 between launches
  int32_t n_works = 0;
  AttnShape shape;
  int32_t q_rows = 0;  // whole tokens of a work, at most
  int32_t page_tokens = 0;
  int32_t box_tokens = 0;        // tokens of a page that one copy brings
  const std::byte* k = nullptr;  // of page 0 at granule 0
  const std::byte* v = nullptr;
  void* out = nullptr;
  const float* sinks = nullptr;  // [H], nullable
  float score_factor = 1.0f;     // of q k^T; to units of log 2, or to tanh's argument
  float softcap = 0.0f;          // in units of log 2; 0: none
  float v_scale = 1.0f;
};

// Hardware barriers: two groups take turns, each has one for itself, and so has the loading group.
constexpr int kTurnBarrier = 1;
constexpr int kGroupBarrier = 3;
constexpr int kLoadBarrier = 5;

// One block's work at hand; n_heads 0 ends it.
struct PrefillWork {
  CudaWork work;
  AttnSeq seq;
};

template <class P>
struct PrefillShared {
  uint8_t q[P::kQSlots][P::kQBytes];
  uint8_t k[P::kStages][P::kKBytes];
  uint8_t v[P::kStages][P::kVBytes];
  uint8_t staged[P::kStaged * kWarpgroup * 16 + 16];
  PrefillWork work[P::kQSlots];
  float row_factors[P::kRows];  // of scores, where q was scaled
  PrefillWork loaded;           // the work at hand, where a group loads together
  Barrier q_full[P::kQSlots], q_empty[P::kQSlots];
  Barrier k_full[P::kStages], k_empty[P::kStages];
  Barrier v_full[P::kStages], v_empty[P::kStages];
};

// A walk round `kSlots` slots: full barriers complete at `parity`, empty ones at its opposite.
template <int kSlots>
struct Ring {
  int slot = 0;
  uint32_t parity = 0;

  __device__ void step() {
    if (++slot == kSlots) slot = 0, parity ^= 1;
  }
};

}  // namespace ashlar::cuda
