#pragma once

// What the tests of the recurrent layer's kernels share: state pages scattered over poisoned
// memory. Test code only.

#include <algorithm>
#include <cstring>
#include <random>
#include <vector>

#include "base/checked.h"
#include "kernels/delta/state.h"
#include "kernels/testing.h"

namespace ashlar {

// A step's sequence before it has pages.
struct StateLength {
  int32_t q_len = 1;
  int32_t position = 0;
  int32_t n_slots = 0;
};

struct StateSizes {
  int64_t conv_elements = 0;       // (taps - 1) * channels
  int64_t recurrent_elements = 0;  // heads * value_dim * key_dim
  DType conv_dtype = DType::bf16;
};

// Pages of the sequences for layer 1 of 3, in random order with gaps; the last one ends where the
// memory does. Everything is NaN, slot 0 of a sequence at position 0 too, until state() is written;
// the other layers' entries are absurd.
class StatePages {
 public:
  StatePages(const StateSizes& sizes, std::vector<StateLength> lengths, uint64_t seed = 3)
      : sizes_(sizes) {
    view_.layer = 1, view_.n_layers = 3;
    view_.conv_dtype = sizes.conv_dtype;
    view_.recurrent_offset_bytes = round_up(conv_bytes(), 4);
    const int64_t stride = (page_bytes() + 2 * kGranuleBytes - 1) / kGranuleBytes;
    std::vector<uint32_t> places;
    for (const StateLength& length : lengths) {
      for (int32_t slot = 0; slot <= length.n_slots; ++slot) {
        places.push_back(static_cast<uint32_t>(static_cast<int64_t>(places.size() + 1) * stride));
      }
    }
    const int64_t last = static_cast<int64_t>(places.size()) * stride * kGranuleBytes;
    memory_.assign(static_cast<size_t>(last + page_bytes()), std::byte{0xFF});
    view_.base = memory_.data();
    std::shuffle(places.begin(), places.end(), std::mt19937_64(seed));
    size_t next = 0;
    int32_t begin = 0;
    for (const StateLength& length : lengths) {
      std::vector<uint32_t> table(static_cast<size_t>(3 * (length.n_slots + 1)), 0xFFFFFFF0u);
      for (int32_t slot = 0; slot <= length.n_slots; ++slot) {
        table[static_cast<size_t>(3 * slot + 1)] = places[next++];
      }
      tables_.push_back(std::move(table));
      seqs_.push_back({.q_begin = begin,
                       .q_len = length.q_len,
                       .position = length.position,
                       .n_slots = length.n_slots});
      begin += length.q_len;
    }
    for (size_t i = 0; i < seqs_.size(); ++i) seqs_[i].pages = tables_[i].data();
  }
  StatePages(const StatePages&) = delete;
  StatePages& operator=(const StatePages&) = delete;

  const StateView& view() const { return view_; }
  const std::vector<StateSeq>& seqs() const { return seqs_; }
  std::vector<StateSeq>& seqs() { return seqs_; }

  // S of a sequence's slot, as a copy.
  std::vector<float> recurrent(size_t seq, int32_t slot) const {
    const float* from = view_.recurrent(seqs_[seq], slot);
    return {from, from + sizes_.recurrent_elements};
  }
  void set_recurrent(size_t seq, const std::vector<float>& values) {
    std::copy(values.begin(), values.end(), view_.recurrent(seqs_[seq], 0));
  }
  // The convolution's inputs, widened.
  std::vector<float> conv(size_t seq, int32_t slot) const {
    const std::byte* page = view_.page(seqs_[seq], slot);
    std::vector<float> values(static_cast<size_t>(sizes_.conv_elements));
    for (size_t i = 0; i < values.size(); ++i) {
      values[i] = sizes_.conv_dtype == DType::f32
                      ? reinterpret_cast<const float*>(page)[i]
                      : to_float(reinterpret_cast<const Bf16*>(page)[i]);
    }
    return values;
  }
  void set_conv(size_t seq, const std::vector<float>& values) {
    std::byte* page = view_.page(seqs_[seq], 0);
    for (size_t i = 0; i < values.size(); ++i) {
      if (sizes_.conv_dtype == DType::f32) {
        reinterpret_cast<float*>(page)[i] = values[i];
      } else {
        reinterpret_cast<Bf16*>(page)[i] = to_bf16(values[i]);
      }
    }
  }
  // Whether nothing but the sequences' inputs and states was written.
  bool surroundings_are_untouched() const {
    std::vector<std::byte> rest = memory_;
    const auto forget = [&](const std::byte* from, int64_t n) {
      std::fill_n(rest.begin() + (from - memory_.data()), n, std::byte{0xFF});
    };
    for (const StateSeq& seq : seqs_) {
      for (int32_t slot = 0; slot <= seq.n_slots; ++slot) {
        const std::byte* page = view_.page(seq, slot);
        forget(page, conv_bytes());
        forget(page + view_.recurrent_offset_bytes, sizes_.recurrent_elements * 4);
      }
    }
    return std::all_of(rest.begin(), rest.end(), [](std::byte b) { return b == std::byte{0xFF}; });
  }

 private:
  int64_t conv_bytes() const { return sizes_.conv_elements * size_of(sizes_.conv_dtype); }
  int64_t page_bytes() const {
    return view_.recurrent_offset_bytes + sizes_.recurrent_elements * 4;
  }

  StateSizes sizes_;
  std::vector<std::byte> memory_;
  std::vector<std::vector<uint32_t>> tables_;
  std::vector<StateSeq> seqs_;
  StateView view_;
};

}  // namespace ashlar
