#pragma once

// Where a team's K and V come from: chunks of a work's tokens, copied from pages while others are
// walked.

#include "kernels/attention/cuda/mma_layout.cuh"

namespace ashlar::cuda {

template <class L>
class ChunkSource {
 public:
  // The table entries a chunk needs, read well before it is asked for.
  struct Places {
    uint32_t first, second;  // of tokens from 0 on, and from 16 on
  };

  __device__ ChunkSource(const MmaArgs& args, uint32_t shared, int team, int thread)
      : args_(args),
        shared_(shared),
        team_(team),
        thread_(thread),
        keys_(thread),
        values_(thread) {}

  __device__ void begin(const CudaWork& work) {
    pages_ = work.pages;
    kv_begin_ = work.kv_begin, kv_end_ = work.kv_end;
    head_row_ = int64_t{work.head_begin / args_.group} << args_.page_shift;
  }

  // Entries wholly outside the work's tokens are not looked at.
  __device__ Places places(int chunk) const {
    const int position = chunk * L::kChunk;
    if (position >= kv_end_) return {0, 0};
    if (L::kChunk == 16 || args_.page_shift > 4)
      return {__ldg(pages_ + (position >> args_.page_shift)), 0};
    const int page = position >> 4;
    return {position + 16 > kv_begin_ ? __ldg(pages_ + page) : 0,
            position + 16 < kv_end_ ? __ldg(pages_ + page + 1) : 0};
  }

  // Asks for a chunk; one of no tokens counts too, so that waiting counts chunks.
  __device__ void ask(int chunk, Places places, int stage) const {
    const int position = chunk * L::kChunk;
    if (position < kv_end_) {
      if (position >= kv_begin_ && position + L::kChunk <= kv_end_)
        copy<true>(position, places, stage);
      else
        copy<false>(position, places, stage);
    }
    copy_async_commit();
  }

  // The oldest chunk asked for has come, for all of the team.
  __device__ void wait() const {
    copy_async_wait<L::kStages - 1>();
    meet();
  }
  // The team's warps are at one point.
  __device__ void meet() const {
    if constexpr (L::kTeam == 1)
      __syncwarp();
    else
      __syncthreads();
  }

  __device__ uint32_t keys(int stage) const {
    return shared_ + static_cast<uint32_t>((team_ * L::kStages + stage) * L::kStageBytes);
  }
  __device__ uint32_t values(int stage) const { return keys(stage) + L::kChunk * L::kKeyPitch; }

 private:
  static constexpr int kThreads = L::kTeam * kWarp;

  template <bool kAll>
  __device__ void copy(int position, Places places, int stage) const {
    const int begin = kv_begin_ - position, end = kv_end_ - position;
    const bool one_page = L::kChunk == 16 || args_.page_shift > 4;
    const int64_t row = head_row_ + (position & ((1 << args_.page_shift) - 1));
    const int64_t first = int64_t{places.first} * kGranuleBytes;
    const int64_t second = int64_t{places.second} * kGranuleBytes;
    const std::byte* k = args_.k + first + row * L::kKeyBytes;
    const std::byte* v = args_.v + first + row * L::kValueBytes;
    const std::byte* k_upper = one_page ? k : args_.k + second + (head_row_ - 16) * L::kKeyBytes;
    const std::byte* v_upper = one_page ? v : args_.v + second + (head_row_ - 16) * L::kValueBytes;
    keys_.template run<kAll>(keys(stage), k, k_upper, begin, end);
    values_.template run<kAll>(values(stage), v, v_upper, begin, end);
    if constexpr (L::kF8) {
      if (args_.scales && thread_ < L::kChunk) {
        const bool upper = !one_page && thread_ >= 16;
        copy_scales((upper ? second : first) + 4 * ((upper ? head_row_ - 16 : row) + thread_),
                    thread_ >= begin && thread_ < end, stage);
      }
    }
  }

  // A thread copies the two scales of its token into the padding of its values.
  __device__ void copy_scales(int64_t offset, bool valid, int stage) const {
    const std::byte* k = args_.scales + offset;
    const std::byte* v = k + (int64_t{4} * args_.kv_heads << args_.page_shift);
    const uint32_t to =
        values(stage) + static_cast<uint32_t>(thread_ * L::kValuePitch + L::kValueBytes);
    copy_async_4(to, k, valid);
    copy_async_4(to + 4, v, valid);
  }

  const MmaArgs& args_;
  uint32_t shared_;
  int team_;
  int thread_;  // of the team
  RowCopy<L::kKeyBytes / 16, L::kKeyPitch, L::kChunk, kThreads> keys_;
  RowCopy<L::kValueBytes / 16, L::kValuePitch, L::kChunk, kThreads> values_;
  const uint32_t* pages_ = nullptr;
  int kv_begin_ = 0;
  int kv_end_ = 0;
  int64_t head_row_ = 0;  // of the KV head's first token in a page
};

}  // namespace ashlar::cuda
