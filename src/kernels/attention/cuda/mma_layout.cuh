#pragma once

// What a variant of the mma body is made of, and its shared memory.
//
// A block's warps form teams: the warps of a team each have 16 query rows and walk the same tokens.
// When rows are few a team is one warp: teams then take chunks of tokens in turn, each with copies
// of its own under way, and meet at the end of each split; nobody waits for anybody in between. One
// team of four warps walks prompts.

#include <numeric>
#include <type_traits>

#include "kernels/attention/cuda/attention_cuda.h"
#include "kernels/cuda/f8.cuh"
#include "kernels/cuda/mma.cuh"

namespace ashlar::cuda {

constexpr int kWarp = 32;
constexpr int kMmaRows = 16;        // of one warp
constexpr int kMmaPrefillTeam = 4;  // warps

// An odd number of 16-byte units, so that eight rows read at one column lie in different banks.
constexpr int row_pitch(int bytes) { return (bytes / 16 | 1) * 16; }

template <DType kType_, int kKeyWidth_, int kValueWidth_, int kTeam_, bool kTokenScales_>
struct MmaLayout {
  static constexpr DType kType = kType_;
  static constexpr int kKeyWidth = kKeyWidth_;
  static constexpr int kValueWidth = kValueWidth_;
  static constexpr int kTeam = kTeam_;  // warps
  static constexpr bool kF8 = is_f8(kType);
  static constexpr bool kTokenScales = kTokenScales_;
  using Half = std::conditional_t<kType == DType::bf16, __nv_bfloat16, __half>;

  static constexpr int kChunk = kF8 || kTeam > 1 ? 32 : 16;  // tokens copied and walked at a time
  static constexpr int kStages = kTeam > 1 ? 3 : 2;          // chunks of a team
  static constexpr int kSteps = kKeyWidth / 16;              // of a dot product
  static constexpr int kBlocks = kValueWidth / 8;            // of eight values

  static constexpr int kKeyBytes = kKeyWidth * (kF8 ? 1 : 2);
  static constexpr int kValueBytes = kValueWidth * (kF8 ? 1 : 2);
  static constexpr int kKeyPitch = row_pitch(kKeyBytes);
  static constexpr int kValuePitch = row_pitch(kValueBytes);
  static constexpr int kQueryPitch = row_pitch(kKeyWidth * 2);
  static constexpr int kStageBytes = kChunk * (kKeyPitch + kValuePitch);
  // Scales of a token lie in the padding of its values: K's, then V's.
  static_assert(!kTokenScales || kValuePitch - kValueBytes >= 8);

  static constexpr int kWarps = 4;
  static constexpr int kThreads = kWarps * kWarp;
  static constexpr int kTeams = kWarps / kTeam;
  static constexpr int kSlice = kBlocks / kTeams;  // a warp's values once teams have met
  static_assert(kSlice * kTeams == kBlocks);

  static constexpr int kQueryAt = kTeams * kStages * kStageBytes;
  static constexpr int kRowScalesAt = kQueryAt + kTeam * kMmaRows * kQueryPitch;
  static constexpr int kExchangeAt = kRowScalesAt + kTeam * kMmaRows * 4;
  // Teams send each other half of their values at most.
  static constexpr int kSumsAt = kExchangeAt + kWarps * (kBlocks / 2) * kWarp * 16;
  static constexpr int kSharedBytes = kTeams > 1 ? kSumsAt + kWarps* kMmaRows * 8 : kExchangeAt;
  // Of 228 KB, 1 KB a block the system's.
  static constexpr int kBlocksPerSm = kSharedBytes <= 113 * 1024 ? 2 : 1;
};

// The first chunk of tokens from `begin` on that is the team's: chunks of the whole sequence are
// dealt in turn, so that a token's team does not depend on where a work begins.
template <class L>
__device__ int first_chunk(int begin, int team) {
  const unsigned chunk = static_cast<unsigned>(begin) / L::kChunk;
  return static_cast<int>(chunk + (static_cast<unsigned>(team) - chunk) % L::kTeams);
}

struct MmaArgs {
  const void* q;
  void* out;
  const std::byte* k;  // of the arena's first page
  const std::byte* v;
  const std::byte* scales;  // null: no token scales
  int page_shift;           // log2 of a page's tokens
  int kv_heads;
  int heads;
  float logit_scale;   // makes products logits in units of log 2, or of softcap where there is one
  float softcap_log2;  // 0: none
  float v_scale;
  const float* sinks;
  int window;
  bool causal;
  bool is_bf16;  // q and out; else f16
  const CudaWork* works;
  const int32_t* queue;  // null: block b does works b, b + n_blocks, ...
  int n_works;
  float* states;
  int64_t state_floats;
  int kv_split;
};

// Rows of kUnits 16-byte units, one after the other in memory (tokens of a head in a page), copied
// by kThreads threads. Rows from 16 on may come from another page.
template <int kUnits, int kPitch, int kRows, int kThreads>
class RowCopy {
 public:
  __device__ explicit RowCopy(int thread) : thread_(thread) {
#pragma unroll
    for (int i = 0; i < kPeriod; ++i) {
      row_[i] = (i * kThreads + thread) / kUnits;
      to_[i] = static_cast<uint32_t>(row_[i] * kPitch + (i * kThreads + thread) % kUnits * 16);
    }
  }

  // Rows outside [begin, end) are not read and become zeros, unless kAll. `upper` is where row 0
  // would be if rows from 16 on had others before them.
  template <bool kAll>
  __device__ void run(uint32_t to, const std::byte* from, const std::byte* upper, int begin,
                      int end) const {
    from += thread_ * 16, upper += thread_ * 16;
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      const int row = row_[i % kPeriod] + i / kPeriod * kPeriodRows;
      if ((i + 1) * kThreads > kRows * kUnits && row >= kRows) continue;
      const bool is_upper = 16 * kUnits % kThreads == 0 ? i * kThreads >= 16 * kUnits : row >= 16;
      copy_async_16(to + to_[i % kPeriod] + i / kPeriod * kPeriodRows * kPitch,
                    (is_upper ? upper : from) + i * kThreads * 16,
                    kAll || (row >= begin && row < end));
    }
  }

 private:
  static constexpr int kCommon = std::gcd(kUnits, kThreads);
  static constexpr int kPeriod = kUnits / kCommon;        // copies after which places repeat,
  static constexpr int kPeriodRows = kThreads / kCommon;  // so many rows further
  static constexpr int kCopies = (kRows * kUnits + kThreads - 1) / kThreads;
  int thread_;
  int row_[kPeriod];
  uint32_t to_[kPeriod];
};

}  // namespace ashlar::cuda
