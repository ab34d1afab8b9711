#pragma once

// What each layer kind needs, as one row of small pure functions per kind. The rest of the room
// loops over groups and asks; it never branches on a kind's name.
//
// `n` is a boundary: n tokens are computed and the next query stands at position n.

#include <cstdint>

#include "spec/groups.h"

namespace ashlar {

// The numbers a kind's functions read, of one group.
struct KindRow {
  // The first token that the query at n still reads. Everything before it may be dropped, and a
  // resume at n requires exactly the tokens from it to n.
  int32_t (*first_needed)(const CacheGroup& group, int32_t n);
  // Pages that tokens of one sequence can touch at once, when it has n_tokens at the end, at most
  // `span` of them behind the query and in the step that computes them.
  int64_t (*most_pages)(const CacheGroup& group, int32_t n_tokens, int64_t span);
  bool by_token;        // pages hold tokens; otherwise a layer's state
  bool needs_all;       // every token from 0 on, so that a page without those before it is useless
  bool needs_snapshot;  // a resume at n requires a copy of the state after exactly n tokens
};

const KindRow& kind_row(LayerKind kind);

inline int32_t first_needed(const CacheGroup& group, int32_t n) {
  return kind_row(group.kind).first_needed(group, n);
}

// Pages of a sequence's table, by position.
struct BlockRange {
  int32_t first = 0;
  int32_t last = 0;  // one past
  int32_t size() const { return last - first; }
};

// The pages that a resume at boundary n requires: those of tokens [first_needed(n), n), and always
// the page that token n goes into if others come before it there, so that a page is whole when it
// is full.
BlockRange resume_blocks(const CacheGroup& group, int32_t n);

// How a sequence is computed, as far as its pages depend on it.
struct StepShape {
  int32_t step_tokens = 1;   // at most so many tokens per step
  int32_t slack_tokens = 0;  // crop may take back so many, so that windows keep as many more
  int32_t state_slots = 0;   // states kept beside the committed one
};

// The closed form: the most pages of the group that a sequence of n_tokens holds at any moment.
int64_t most_pages(const CacheGroup& group, int32_t n_tokens, const StepShape& shape);

}  // namespace ashlar
