#pragma once

// One layer's states inside the pages of a state group: all that the kernels of a recurrent layer
// know of the cache. Plain data; whoever fills it owns the memory and the page tables.
//
// A page holds one layer's state of one sequence: the convolution's last inputs [taps - 1,
// channels] in conv_dtype, then, recurrent_offset_bytes from its start, S [heads, value_dim,
// key_dim] f32. A sequence has the pages [slot * n_layers + layer] of its table; slot 0 is the
// state before the step.

#include <cstddef>
#include <cstdint>

#include "tensor/dtype.h"
#include "tensor/paged.h"

namespace ashlar {

// One sequence of a step: the same for every layer. Its rows stand at `position` and after it.
struct StateSeq {
  int32_t q_begin = 0;   // its first row
  int32_t q_len = 0;     // at least 1
  int32_t position = 0;  // of its first row; at 0 the state is zero and the page is not read
  // 0: the state after the last row replaces slot 0. Otherwise at least q_len: the state after i
  // rows goes to slot i for every i in [1, q_len], and slot 0 stays as it was.
  int32_t n_slots = 0;
  const uint32_t* pages = nullptr;  // [slot * n_layers + layer], granule offsets
};

struct StateView {
  std::byte* base = nullptr;
  int32_t layer = 0;  // among the group's n_layers
  int32_t n_layers = 1;
  int64_t recurrent_offset_bytes = 0;  // a multiple of 4
  DType conv_dtype = DType::bf16;      // f32 or bf16

  std::byte* page(const StateSeq& seq, int32_t slot) const {
    return base + seq.pages[int64_t{slot} * n_layers + layer] * kGranuleBytes;
  }
  // S, [heads, value_dim, key_dim].
  float* recurrent(const StateSeq& seq, int32_t slot) const {
    return reinterpret_cast<float*>(page(seq, slot) + recurrent_offset_bytes);
  }
  // Where the state after `n_rows` >= 1 rows goes.
  int32_t slot_after(const StateSeq& seq, int32_t n_rows) const {
    return seq.n_slots > 0 ? n_rows : 0;
  }
};

}  // namespace ashlar
