#pragma once

// Step: one forward pass over a packed batch, as plain data. The engine packs it; the model reads
// it.

#include <cstdint>
#include <vector>

#include "kernels/attention/attention.h"
#include "kernels/delta/state.h"

namespace ashlar {

struct Step {
  std::vector<int32_t> tokens;     // [T], every sequence's rows one after another
  std::vector<int32_t> positions;  // [T]
  // Per cache group, the step's sequences in row order: same rows, that group's pages.
  std::vector<std::vector<AttnSeq>> groups;
  // Per sequence: 0, or at least its rows; then the states after each row are kept (StateSeq).
  // Empty: 0 for all.
  std::vector<int32_t> state_slots;
  std::vector<int32_t> logit_rows;  // rows of [0, T) whose logits are wanted, ascending

  int64_t n_tokens() const { return static_cast<int64_t>(tokens.size()); }
  void clear() {
    tokens.clear(), positions.clear(), state_slots.clear(), logit_rows.clear();
    for (auto& group : groups) group.clear();
  }
};

// Where a layer's K and V, or its states, live: its group's list in Step::groups and its view of
// that group's pages. One of the two views has a base.
struct LayerCache {
  int32_t group = 0;
  PagedView kv;
  StateView state;
  WriteStats* writes = nullptr;  // counts what is written to kv; null: nobody asks
};

}  // namespace ashlar
