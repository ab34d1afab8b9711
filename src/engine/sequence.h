#pragma once

// Sequence: a request inside the engine, with its tokens and its pages. Engine thread only.

#include <algorithm>
#include <memory>
#include <vector>

#include "engine/request.h"
#include "kv/cache.h"

namespace ashlar {

struct Sequence {
  Request request;
  std::vector<int32_t> tokens;  // prompt and generated
  std::vector<int32_t> drafts;  // proposed to follow them, for the next step alone
  Tables tables;                // tables.n_tokens of `tokens` are computed
  int32_t n_preemptions = 0;
  int32_t n_cached = 0;  // prompt tokens matched at the first admission
  bool cancelled = false;
  std::vector<float> prompt_nll;
  std::vector<float> last_logits;

  int32_t n_tokens() const { return static_cast<int32_t>(tokens.size()); }
  int32_t n_prompt() const { return static_cast<int32_t>(request.tokens.size()); }
  int32_t n_generated() const { return n_tokens() - n_prompt(); }
  // Tokens that are computed at most: the last one is given and never read.
  int32_t most_computed(int32_t max_positions) const {
    return std::min(n_prompt() + std::max(0, request.max_tokens - 1), max_positions);
  }
  int32_t n_pending() const { return n_tokens() - tables.n_tokens; }
  // Its next rows are prompt rows whose probabilities are wanted and not yet recorded.
  bool scoring() const {
    return request.want_prompt_nll && static_cast<int32_t>(prompt_nll.size()) + 1 < n_prompt();
  }
};

// What one step will do: decided by admit, packed and run, applied by commit. Nothing is written
// before it is whole.
struct Slice {
  Sequence* sequence = nullptr;
  int32_t n_tokens = 0;     // rows: tokens [tables.n_tokens, tables.n_tokens + n_tokens)
  int32_t n_drafts = 0;     // of them, the last ones: proposals behind the last token
  int32_t n_reserved = 0;   // with proposals: positions from tables.n_tokens on that have pages
  int32_t first_row = 0;    // in the step
  int32_t first_logit = 0;  // its first row among the logits; meaningful when n_logits > 0
  int32_t n_logits = 0;
};
using StepPlan = std::vector<Slice>;

}  // namespace ashlar
