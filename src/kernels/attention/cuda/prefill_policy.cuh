#pragma once

// The numbers and types of one prefill kernel, what it is given, and its shared memory.

#include <algorithm>
#include <bit>

#include "kernels/attention/cuda/attention_cuda.h"
#include "kernels/cuda/hopper.cuh"

namespace ashlar::cuda {

constexpr int kWarp = 32;
constexpr int kWarpgroup = 128;
constexpr int kChunk = 64;        // columns of a tile that lie together: 128 bytes, swizzled
constexpr int kChunkBytes = 128;  // of one row of a chunk
constexpr int kAtomRows = 8;      // rows of a chunk that lie together
constexpr int kAtomBytes = kAtomRows * kChunkBytes;

// A tile in shared memory is [chunks][rows][kChunkBytes]. Widths are whole chunks; a tensor may be
// narrower, copies then fill up with zeros.
struct PrefillTile {
  bool window = false;        // for rows that see a few tiles
  int groups = 2;             // warpgroups that multiply, of 64 rows each
  int kv = 128;               // tokens of K and V
  int stages = 2;             // tiles of K, and of V, in flight
  int q_slots = 1;            // works whose queries are in shared memory
  int box = 64;               // tokens of a page brought together, at most
  int staged = 0;             // FP8: loads of 16 codes in flight, of each loading thread
  bool token_scales = false;  // FP8: K and V of each token have scales of their own
  int load_groups = 1;        // warpgroups that load
  int math_registers = 224;   // of each thread
  int load_registers = 56;
};

constexpr PrefillTile kLongTile{};
// Small tiles, of which only what is seen is brought, and more rows in flight.
constexpr PrefillTile kWindowTile{.window = true,
                                  .groups = 3,
                                  .kv = 64,
                                  .stages = 3,
                                  .box = 16,
                                  .math_registers = 152,
                                  .load_registers = 56};
constexpr PrefillTile kWideTile{.kv = 64};
constexpr PrefillTile kF8Tile{
    .staged = 4, .load_groups = 2, .math_registers = 192, .load_registers = 64};
constexpr PrefillTile kF8WindowTile{.window = true,
                                    .kv = 64,
                                    .stages = 3,
                                    .staged = 4,
                                    .load_groups = 2,
                                    .math_registers = 192,
                                    .load_registers = 64};
// For rows of 64, and for rows of 256, whose sums take most registers.
constexpr PrefillTile kF8NarrowTile{.kv = 64,
                                    .stages = 3,
                                    .staged = 4,
                                    .load_groups = 1,
                                    .math_registers = 216,
                                    .load_registers = 72};
constexpr PrefillTile kF8WideTile{
    .kv = 64, .staged = 4, .load_groups = 1, .math_registers = 216, .load_registers = 72};

// The tile for pages whose tokens have scales.
constexpr PrefillTile with_token_scales(PrefillTile tile) {
  tile.token_scales = true;
  return tile;
}
// Where nothing else is left to make room for them.
constexpr PrefillTile fewer_loads(PrefillTile tile) {
  tile.staged /= 2;
  return tile;
}

template <class QHalf_, DType kStored_, int kKWidth_, int kVWidth_, PrefillTile kTile>
struct PrefillPolicy {
  using QHalf = QHalf_;                       // of q and out
  static constexpr DType kStored = kStored_;  // of pages
  static constexpr bool kWiden = is_f8(kStored);
  using Half = std::conditional_t<kWiden, __half, QHalf>;  // of products

  static constexpr int kKWidth = kKWidth_;
  static constexpr int kVWidth = kVWidth_;
  static constexpr int kKChunks = kKWidth / kChunk;
  static constexpr int kVChunks = kVWidth / kChunk;
  static constexpr bool kWindow = kTile.window;
  static constexpr int kKv = kTile.kv;
  static constexpr int kStages = kTile.stages;
  static constexpr int kQSlots = kTile.q_slots;
  static constexpr int kWorkSlots = kQSlots + 1;
  static constexpr int kBoxTokens = kTile.box;
  static constexpr bool kTokenScales = kTile.token_scales;
  // A tile's scales are looked at after its K was given back, when the one after may be there and
  // the one after that be on its way.
  static constexpr int kScaleSlots = kTokenScales ? kStages + 1 : 1;
  static constexpr int kScaleTokens = kTokenScales ? kKv : 1;

  static constexpr int kGroups = kTile.groups;
  static constexpr int kRows = 64 * kGroups;
  static constexpr int kLoadThreads = kTile.load_groups * kWarpgroup;
  static constexpr int kThreads = kGroups * kWarpgroup + kLoadThreads;
  static constexpr int kMathRegisters = kTile.math_registers;
  static constexpr int kLoadRegisters = kTile.load_registers;

  // Fewer than a tile's K and V are.
  static constexpr int kLoads = kKv * (kKChunks + kVChunks) * 4 / kLoadThreads;
  static constexpr int kStaged =
      std::min(kTile.staged, static_cast<int>(std::bit_floor(kLoads - 1u)));

  static constexpr int kQBytes = kKChunks * kRows * kChunkBytes;
  static constexpr int kKBytes = kKChunks * kKv * kChunkBytes;
  static constexpr int kVBytes = kVChunks * kKv * kChunkBytes;

  static_assert(kKWidth % kChunk == 0 && kVWidth % kChunk == 0);
  static_assert(kKv == 64 || kKv == 128);
  // What the kernel starts with, in steps of eight, is what there is to share.
  static_assert(kGroups * kMathRegisters + kTile.load_groups * kLoadRegisters <=
                65536 / kThreads / 8 * 8 * (kThreads / kWarpgroup));
  static_assert(kWiden == (kStaged > 0));
};

// What a launch gives the kernel, beside the tensor maps of q, K and V.
struct PrefillParams {
  const AttnSeq* seqs = nullptr;
  const CudaWork* works = nullptr;
  int32_t* next = nullptr;  // the next work to take; 0 between launches
  int32_t n_works = 0;
  AttnShape shape;
  int32_t q_rows = 0;       // whole tokens of a work, at most
  int32_t page_tokens = 0;  // a power of two, and its logarithm
  int32_t page_shift = 0;
  int32_t box_tokens = 0;        // tokens of a page that are brought together
  const std::byte* k = nullptr;  // of page 0 at granule 0
  const std::byte* v = nullptr;
  const std::byte* scales = nullptr;  // of tokens: of page 0 at granule 0
  void* out = nullptr;
  const float* sinks = nullptr;  // [H], nullable
  float score_factor = 1.0f;     // of q k^T; to units of log 2, or to tanh's argument
  float softcap = 0.0f;          // in units of log 2; 0: none
  float v_scale = 1.0f;
};

// Hardware barriers: multiplying groups take turns, and each has one for itself.
constexpr int kTurnBarrier = 1;
constexpr int kGroupBarrier = 4;

// One block's work at hand; n_heads 0 ends it.
struct PrefillWork {
  CudaWork work;
  AttnSeq seq;
};

// Scales of a tile's tokens, as the softmax wants them. V's goes into the exponent of a token's
// weight, so that weights stay within 1 whatever the scales are; the sum of weights, which V's
// scale is no part of, takes it out again.
template <int kTokens>
struct TokenScales {
  float k[kTokens];
  float log2_v[kTokens];
  float inverse_v[kTokens];
};

template <class P>
struct PrefillShared {
  uint8_t q[P::kQSlots][P::kQBytes];
  uint8_t k[P::kStages][P::kKBytes];
  uint8_t v[P::kStages][P::kVBytes];
  uint8_t staged[P::kStaged * P::kLoadThreads * 16 + 16];
  PrefillWork work[P::kWorkSlots];
  float row_factors[P::kRows];  // of scores, where q was scaled
  TokenScales<P::kScaleTokens> scales[P::kScaleSlots];
  Barrier work_told[P::kWorkSlots], work_done[P::kWorkSlots];
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
