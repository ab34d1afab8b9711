#pragma once

// What fits in an arena, from groups and layout alone: the closed forms by which the allocator
// admits sequences, so that what a plan says fits, fits. Pure functions.

#include <cstdint>
#include <span>
#include <vector>

#include "kv/kinds.h"
#include "kv/layout.h"

namespace ashlar {

// Slabs that pages[g] (and more[g], unless it is empty) pages of each group lease when none is
// leased yet and no slab of a group has room for another page of it before the next is leased.
int64_t slabs_needed(const ArenaLayout& layout, std::span<const int64_t> pages,
                     std::span<const int64_t> more = {});

// The most pages of each group that a sequence holds at any moment.
std::vector<int64_t> sequence_pages(std::span<const CacheGroup> groups, int32_t n_tokens,
                                    const StepShape& shape);

// How a sequence that only generates is computed: a token per step, and what is proposed beside it.
StepShape resident(const StepShape& shape);

// The most sequences of n_tokens that the arena holds when they come one after another: all but the
// last are resident, the last is still computed in steps of shape.step_tokens. REQUIRES
// n_tokens > 0.
int64_t sequences_that_fit(std::span<const CacheGroup> groups, const ArenaLayout& layout,
                           int32_t n_tokens, const StepShape& shape);

// Whether an empty arena holds a sequence of n_tokens.
bool sequence_fits(std::span<const CacheGroup> groups, const ArenaLayout& layout, int32_t n_tokens,
                   const StepShape& shape);
// The longest sequence that an empty arena holds, up to `limit` tokens; 0: not one token.
int32_t longest_sequence(std::span<const CacheGroup> groups, const ArenaLayout& layout,
                         const StepShape& shape, int32_t limit);

// Bytes of a sequence's pages that can hold what a later query reads: the rest of `bytes` is page
// ends behind the last token, straddled window ends and alignment.
int64_t live_bytes(const CacheGroup& group, int32_t n_tokens, const StepShape& shape);

// A resident sequence of n_tokens, and how many there may be.
struct PlanPoint {
  int32_t n_tokens = 0;
  std::vector<int64_t> pages;        // by group, the most it holds at any moment
  std::vector<int64_t> group_bytes;  // of those pages, whole granules
  int64_t bytes = 0;                 // their sum
  int64_t live_bytes = 0;            // of which what a query may read
  int64_t n_sequences = 0;
};

PlanPoint plan_point(std::span<const CacheGroup> groups, const ArenaLayout& layout,
                     int32_t n_tokens, const StepShape& shape);

// The lengths a curve shows: powers of two from 1024 (or the limit, if that is less) and the limit.
std::vector<int32_t> curve_lengths(int32_t limit);

}  // namespace ashlar
