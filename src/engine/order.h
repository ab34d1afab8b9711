#pragma once

// Scheduling policy: who computes how many tokens in the next step. A pure function of numbers, so
// that it can be read, tested and replaced alone.

#include <cstdint>
#include <span>
#include <vector>

namespace ashlar {

// One request as the policy sees it.
struct Demand {
  int32_t n_pending = 0;     // tokens not yet computed: 1 when decoding, more in prefill
  bool running = false;      // has pages; else it waits
  bool every_logit = false;  // wants logits of every row; else of its last one at most
  int32_t n_drafts = 0;      // decoding: proposals that might be checked beside the pending token
};

struct Budget {
  int32_t step_tokens = 512;   // all rows of a step
  int32_t chunk_tokens = 512;  // rows of one request in one step
  int32_t max_running = 256;
  int32_t logit_rows =
      64;  // rows that may want logits; each request that may finish its prompt takes one
};

// Tokens for each demand, in the given order (arrival order, running before waiting). Running
// requests first, so that a decode never waits for a newcomer's prefill; then waiting ones while
// there is room. 0: not now. More than what is pending: that many proposals beside it; they take at
// most half of a step that others need too.
std::vector<int32_t> share_step(std::span<const Demand> demands, const Budget& budget);

}  // namespace ashlar
