#pragma once

// Where a team's K and V come from: chunks of a block's works, one work after the other, copied
// from pages while others are walked.

#include "kernels/attention/cuda/mma_layout.cuh"

namespace ashlar::cuda {

// Works of this block, in order.
class WorkList {
 public:
  __device__ explicit WorkList(const MmaArgs& args) : works_(args.works) {
    const int block = static_cast<int>(blockIdx.x), n_blocks = static_cast<int>(gridDim.x);
    at_ = args.queue ? args.queue[block] : block;
    end_ = args.queue ? args.queue[block + 1] : args.n_works;
    step_ = args.queue ? 1 : n_blocks;
  }
  __device__ bool done() const { return at_ >= end_; }
  __device__ const CudaWork* get() const { return works_ + at_; }
  __device__ void next() { at_ += step_; }

 private:
  const CudaWork* works_;
  int at_, end_, step_;
};

template <class L>
class ChunkSource {
 public:
  __device__ ChunkSource(const MmaArgs& args, uint32_t shared, int team, int thread)
      : args_(args),
        list_(args),
        shared_(shared),
        team_(team),
        thread_(thread),
        keys_(thread),
        values_(thread) {
    request();
    take();
  }

  // Begins to read the table entries of the next chunk: well before it is asked for, since their
  // way is as long as the chunk's own.
  __device__ void look_up() {
    const int position = chunk_ * L::kChunk;
    if (is_done_) return;
    if (one_page()) {
      first_ = load_early(pages_ + (position >> args_.page_shift));
      return;
    }
    // Entries wholly outside the work's tokens are not looked at.
    const uint32_t* page = pages_ + (position >> 4);
    first_ = position + 16 > kv_begin_ ? load_early(page) : 0;
    second_ = position + 16 < kv_end_ ? load_early(page + 1) : 0;
  }

  // Asks for that chunk. One that there is not counts too, so that waiting counts chunks.
  __device__ void ask(int stage) {
    if (!is_done_) {
      const int position = chunk_ * L::kChunk;
      if (position >= kv_begin_ && position + L::kChunk <= kv_end_)
        copy<true>(position, stage);
      else
        copy<false>(position, stage);
      chunk_ += L::kTeams;
      if (chunk_ * L::kChunk >= kv_end_) take();
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

  __device__ bool one_page() const { return L::kChunk == 16 || args_.page_shift > 4; }

  // Begins to read the next work.
  __device__ void request() {
    if (list_.done()) return;
    const CudaWork* work = list_.get();
    next_pages_ = load_early(&work->pages);
    next_begin_ = load_early(&work->kv_begin);
    next_end_ = load_early(&work->kv_end);
    next_head_ = load_early(&work->kv_head);
  }
  // Goes on with the requested work, or a later one: the first that has a chunk for this team.
  __device__ void take() {
    do {
      is_done_ = list_.done();
      if (is_done_) return;
      pages_ = next_pages_, kv_begin_ = next_begin_, kv_end_ = next_end_;
      head_row_ = next_head_ << args_.page_shift;
      chunk_ = first_chunk<L>(kv_begin_, team_);
      list_.next();
      request();
    } while (chunk_ * L::kChunk >= kv_end_);
  }

  template <bool kAll>
  __device__ void copy(int position, int stage) const {
    const int begin = kv_begin_ - position, end = kv_end_ - position;
    const int row = head_row_ + (position & ((1 << args_.page_shift) - 1));
    const int64_t first = int64_t{first_} * kGranuleBytes;
    const int64_t second = int64_t{second_} * kGranuleBytes;
    const std::byte* k = args_.k + first + row * L::kKeyBytes;
    const std::byte* v = args_.v + first + row * L::kValueBytes;
    const int upper = head_row_ - 16;
    const std::byte* k_upper = one_page() ? k : args_.k + second + upper * L::kKeyBytes;
    const std::byte* v_upper = one_page() ? v : args_.v + second + upper * L::kValueBytes;
    keys_.template run<kAll>(keys(stage), k, k_upper, begin, end);
    values_.template run<kAll>(values(stage), v, v_upper, begin, end);
    if constexpr (L::kTokenScales) {
      if (thread_ >= L::kChunk) return;
      const bool is_upper = !one_page() && thread_ >= 16;
      copy_scales((is_upper ? second : first) + 4 * ((is_upper ? upper : row) + thread_),
                  thread_ >= begin && thread_ < end, stage);
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
  WorkList list_;
  uint32_t shared_;
  int team_;
  int thread_;  // of the team
  RowCopy<L::kKeyBytes / 16, L::kKeyPitch, L::kChunk, kThreads> keys_;
  RowCopy<L::kValueBytes / 16, L::kValuePitch, L::kChunk, kThreads> values_;

  // The work being asked for: its tokens, and the KV head's first row in a page.
  bool is_done_ = false;
  const uint32_t* pages_ = nullptr;
  int kv_begin_ = 0, kv_end_ = 0, head_row_ = 0;
  int chunk_ = 0;                    // next to be asked for
  uint32_t first_ = 0, second_ = 0;  // its table entries: of tokens from 0 on, and from 16 on
  const uint32_t* next_pages_ = nullptr;
  int next_begin_ = 0, next_end_ = 0, next_head_ = 0;
};

}  // namespace ashlar::cuda
