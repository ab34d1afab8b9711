#pragma once

// The fetching warp: works, their queries, and tiles of K and V by tensor copies.
//
// Tiles stand at multiples of their size, and only pages that a work sees are fetched: other tokens
// of a tile hold whatever was there before, and their table entries are not looked at.

#include <cstddef>

#include "kernels/attention/cuda/decode_layout.cuh"
#include "kernels/attention/cuda/mma_query.cuh"
#include "kernels/attention/cuda/mma_source.cuh"

namespace ashlar::cuda {

// Walks over all tiles of all works of a block, a tile ahead of the copies: each lane knows one box
// of tokens, and the entry of its page is on its way when the tile's turn comes.
template <int kTile>
class TileCursor {
 public:
  __device__ TileCursor(const MmaArgs& args, int lane)
      : args_(args), list_(args), lane_(lane), box_(min(1 << args.page_shift, kTile)) {
    request();
    take();
  }

  __device__ bool done() const { return done_; }
  __device__ bool starts_work() const { return tile_ == begin_ / kTile; }
  __device__ uint32_t word() const { return word_; }

  struct Box {
    bool valid;
    int granule;  // of its page
    int slot;     // its first token in the page
  };
  // The lane's.
  __device__ Box box() const {
    return {valid_, static_cast<int>(entry_), position() & ((1 << args_.page_shift) - 1)};
  }
  __device__ int head() const { return head_; }
  __device__ void next() {
    ++tile_;
    if (tile_ * kTile >= end_)
      take();
    else
      look_up();
  }

 private:
  static_assert(sizeof(CudaWork) == 64);

  template <class T>
  __device__ T field(size_t offset) const {
    const int i = static_cast<int>(offset / 4);
    if constexpr (sizeof(T) == 4) {
      return static_cast<T>(__shfl_sync(~0u, word_, i));
    } else {
      const uint64_t low = __shfl_sync(~0u, word_, i), high = __shfl_sync(~0u, word_, i + 1);
      return reinterpret_cast<T>(low | high << 32);
    }
  }

  __device__ int position() const { return tile_ * kTile + lane_ * box_; }

  // Begins to read the next work: a word a lane.
  __device__ void request() {
    if (list_.done()) return;
    const auto* words = reinterpret_cast<const uint32_t*>(list_.get());
    coming_ = load_early(words + lane_ % 16);
  }
  __device__ void take() {
    done_ = list_.done();
    if (done_) return;
    word_ = coming_;
    list_.next();
    request();
    pages_ = field<const uint32_t*>(offsetof(CudaWork, pages));
    begin_ = field<int>(offsetof(CudaWork, kv_begin));
    end_ = field<int>(offsetof(CudaWork, kv_end));
    head_ = field<int>(offsetof(CudaWork, kv_head));
    tile_ = begin_ / kTile;
    look_up();
  }
  __device__ void look_up() {
    valid_ = lane_ * box_ < kTile && position() < end_ && position() + box_ > begin_;
    if (valid_) entry_ = load_early(pages_ + (position() >> args_.page_shift));
  }

  const MmaArgs& args_;
  WorkList list_;
  int lane_, box_;
  bool done_ = true, valid_ = false;
  uint32_t coming_ = 0, word_ = 0, entry_ = 0;
  const uint32_t* pages_ = nullptr;
  int begin_ = 0, end_ = 0, head_ = 0, tile_ = 0;
};

template <class L>
class Fetcher {
 public:
  using Cursor = TileCursor<L::kTile>;

  __device__ Fetcher(const MmaArgs& args, const CUtensorMap* keys, const CUtensorMap* values,
                     DecodeShared<L>& shared, uint32_t ring)
      : args_(args),
        key_map_(keys),
        value_map_(values),
        shared_(shared),
        ring_(ring),
        lane_(static_cast<int>(threadIdx.x) % kWarp),
        boxes_log2_(max(0, kTileLog2 - args.page_shift)),
        box_(L::kTile >> boxes_log2_) {}

  __device__ void run(Cursor& cursor) {
    DecodePlace place, work;
    while (!cursor.done()) {
      const typename Cursor::Box box = cursor.box();
      const int head = cursor.head();
      const bool starts_work = cursor.starts_work();
      const uint32_t word = cursor.word();
      cursor.next();
      if (starts_work) {
        tell(word, work);
        work.next(2);
      }
      copy(box, head, place);
      place.next(kStages<L>);
    }
  }

 private:
  using Keys = typename L::Keys;
  using Values = typename L::Values;
  static constexpr int kTileLog2 = L::kTile == 128 ? 7 : 6;
  static_assert(1 << kTileLog2 == L::kTile);

  // Tells of a work and brings its queries; those of rows it does not have are whatever they were.
  __device__ void tell(uint32_t word, const DecodePlace& at) {
    Barrier& full = shared_.work_full[at.slot];
    shared_.work_empty[at.slot].wait(at.parity ^ 1);
    if (lane_ < 16) reinterpret_cast<uint32_t*>(&shared_.works[at.slot])[lane_] = word;
    __syncwarp();
    const CudaWork& work = shared_.works[at.slot];
    const int n_rows = rows_of(work);
    if (lane_ == 0) full.arrive_expect_bytes(static_cast<uint32_t>(n_rows * L::kKeyWidth * 2));
    __syncwarp();
    if (lane_ < n_rows) {
      const uint32_t to = shared_address(shared_.queries[at.slot]);
      const auto* from = static_cast<const std::byte*>(args_.q);
      copy_bulk(to + lane_ * L::kQueryPitch, from + row_of(args_, work, lane_) * (L::kKeyWidth * 2),
                L::kKeyWidth * 2, full);
    }
    __syncwarp();
  }

  // From the page's first head to `head`, in rows of `kWidth`.
  template <int kWidth>
  __device__ int head_granules(int head) const {
    return head * (kWidth * L::kElement << args_.page_shift) / static_cast<int>(kGranuleBytes);
  }

  __device__ void copy(const typename Cursor::Box& box, int head, const DecodePlace& at) {
    const auto n_boxes = static_cast<uint32_t>(__popc(__ballot_sync(~0u, box.valid)));
    const uint32_t tokens = n_boxes * box_;
    // A lane makes one copy of a box.
    const int i = lane_ & ((1 << boxes_log2_) - 1), line = lane_ >> boxes_log2_;
    const bool valid = __shfl_sync(~0u, static_cast<int>(box.valid), i) != 0;
    const int granule = __shfl_sync(~0u, box.granule, i);
    const int slot = __shfl_sync(~0u, box.slot, i);
    const uint32_t key_at = ring_ + at.slot * Keys::kBytes;
    const uint32_t value_at = ring_ + kStages<L> * Keys::kBytes + at.slot * Values::kBytes;

    Barrier& key_full = shared_.key_full[at.slot];
    shared_.key_empty[at.slot].wait(at.parity ^ 1);
    if (lane_ == 0) key_full.arrive_expect_bytes(tokens * L::kKeyWidth * L::kElement);
    __syncwarp();
    if (valid && line < Keys::kCopies) {
      copy_tensor_4d(key_at + Keys::begin(i * box_, line), key_map_, 0, line, slot,
                     granule + head_granules<L::kKeyWidth>(head), key_full);
    }
    if constexpr (L::kTokenScales) copy_scales(box, head, at);
    __syncwarp();

    Barrier& value_full = shared_.value_full[at.slot];
    shared_.value_empty[at.slot].wait(at.parity ^ 1);
    if (lane_ == 0) value_full.arrive_expect_bytes(tokens * L::kValueWidth * L::kElement);
    __syncwarp();
    if (valid && line < Values::kCopies) {
      copy_tensor_4d(value_at + Values::begin(i * box_, line), value_map_, 0, line, slot,
                     granule + head_granules<L::kValueWidth>(head), value_full);
    }
    __syncwarp();
  }

  // Scales lie at multiples of four bytes: too odd for tensor copies.
  __device__ void copy_scales(const typename Cursor::Box& box, int head, const DecodePlace& at) {
    const int page_tokens = 1 << args_.page_shift;
#pragma unroll 1
    for (int token = lane_; token < L::kTile; token += kWarp) {
      const int i = token / box_;
      const bool valid = __shfl_sync(~0u, static_cast<int>(box.valid), i) != 0;
      const auto granule = static_cast<uint32_t>(__shfl_sync(~0u, box.granule, i));
      const int slot = __shfl_sync(~0u, box.slot, i) + token % box_;
      const std::byte* from =
          args_.scales + int64_t{granule} * kGranuleBytes + 4 * (head * page_tokens + slot);
      float(&scales)[2][L::kTile] = shared_.scales[at.slot];
      copy_async_4(shared_address(&scales[0][token]), from, valid);
      copy_async_4(shared_address(&scales[1][token]), from + 4 * args_.kv_heads * page_tokens,
                   valid);
    }
    arrive_when_copied(shared_.key_full[at.slot]);
  }

  const MmaArgs& args_;
  const CUtensorMap* key_map_;
  const CUtensorMap* value_map_;
  DecodeShared<L>& shared_;
  const uint32_t ring_;
  const int lane_;
  const int boxes_log2_, box_;
};

}  // namespace ashlar::cuda
