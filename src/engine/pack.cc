// pack: the plan as one Step of rows, and which of them want logits.

#include "engine/engine.h"

namespace ashlar {
namespace {

// The rows of a slice whose logits somebody reads: the last pending token's (the next token is
// drawn from it), those of proposals behind it, and with prompt_nll every prompt row's.
int32_t count_logits(const Slice& slice) {
  if (slice.sequence->scoring()) return slice.n_tokens;
  if (slice.n_drafts > 0) return 1 + slice.n_drafts;
  return slice.n_tokens == slice.sequence->n_pending() ? 1 : 0;
}

}  // namespace

void Engine::pack(StepPlan* plan) {
  step_.clear();
  int32_t row = 0;
  for (Slice& slice : *plan) {
    const Sequence& s = *slice.sequence;
    const int32_t begin = s.tables.n_tokens;
    slice.first_row = row;
    slice.first_logit = static_cast<int32_t>(step_.logit_rows.size());
    slice.n_logits = count_logits(slice);
    for (int32_t i = 0; i < slice.n_tokens; ++i) {
      const auto at = static_cast<size_t>(begin + i);
      step_.tokens.push_back(at < s.tokens.size() ? s.tokens[at] : s.drafts[at - s.tokens.size()]);
      step_.positions.push_back(begin + i);
    }
    for (int32_t i = slice.n_tokens - slice.n_logits; i < slice.n_tokens; ++i)
      step_.logit_rows.push_back(row + i);
    // Which row's state will be the sequence's is known only when the model has spoken.
    step_.state_slots.push_back(slice.n_drafts > 0 ? slice.n_tokens : 0);
    for (size_t g = 0; g < step_.groups.size(); ++g) {
      step_.groups[g].push_back({.q_begin = row,
                                 .q_len = slice.n_tokens,
                                 .kv_len = begin + slice.n_tokens,
                                 .pages = s.tables.pages[g].data()});
    }
    row += slice.n_tokens;
  }
}

}  // namespace ashlar
