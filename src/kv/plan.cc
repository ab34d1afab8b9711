#include "kv/plan.h"

#include <algorithm>

#include "base/checked.h"

namespace ashlar {
namespace {

// The largest n in [0, limit] that `fits`, which holds of every smaller one, too.
template <class Fits>
int64_t largest(int64_t limit, const Fits& fits) {
  int64_t low = 0, high = limit + 1;  // low fits, high does not
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    (fits(middle) ? low : high) = middle;
  }
  return low;
}

}  // namespace

int64_t slabs_needed(const ArenaLayout& layout, std::span<const int64_t> pages,
                     std::span<const int64_t> more) {
  CHECK(pages.size() == layout.groups.size() && (more.empty() || more.size() == pages.size()));
  int64_t slabs = 0;
  for (size_t g = 0; g < pages.size(); ++g) {
    const int64_t n = pages[g] + (more.empty() ? 0 : more[g]);
    slabs += ceil_div(n, layout.groups[g].pages_per_slab);
  }
  return slabs;
}

std::vector<int64_t> sequence_pages(std::span<const CacheGroup> groups, int32_t n_tokens,
                                    const StepShape& shape) {
  std::vector<int64_t> pages;
  for (const CacheGroup& group : groups) pages.push_back(most_pages(group, n_tokens, shape));
  return pages;
}

StepShape resident(const StepShape& shape) {
  StepShape generating = shape;
  generating.step_tokens = 1;
  return generating;
}

int64_t sequences_that_fit(std::span<const CacheGroup> groups, const ArenaLayout& layout,
                           int32_t n_tokens, const StepShape& shape) {
  const std::vector<int64_t> last = sequence_pages(groups, n_tokens, shape);
  const std::vector<int64_t> others = sequence_pages(groups, n_tokens, resident(shape));
  int64_t limit = INT64_MAX;  // as if every slab were of one group
  for (size_t g = 0; g < others.size(); ++g) {
    if (others[g] == 0) continue;
    limit = std::min(limit, layout.n_slabs * layout.groups[g].pages_per_slab / others[g]);
  }
  return largest(limit, [&](int64_t n) {
    std::vector<int64_t> together = last;
    for (size_t g = 0; g < together.size(); ++g) together[g] += (n - 1) * others[g];
    return slabs_needed(layout, together) <= layout.n_slabs;
  });
}

bool sequence_fits(std::span<const CacheGroup> groups, const ArenaLayout& layout, int32_t n_tokens,
                   const StepShape& shape) {
  return slabs_needed(layout, sequence_pages(groups, n_tokens, shape)) <= layout.n_slabs;
}

int32_t longest_sequence(std::span<const CacheGroup> groups, const ArenaLayout& layout,
                         const StepShape& shape, int32_t limit) {
  return static_cast<int32_t>(largest(limit, [&](int64_t n_tokens) {
    return sequence_fits(groups, layout, static_cast<int32_t>(n_tokens), shape);
  }));
}

int64_t live_bytes(const CacheGroup& group, int32_t n_tokens, const StepShape& shape) {
  if (!group.has_tokens()) return group.n_layers() * (1 + shape.state_slots) * group.state_bytes;
  int64_t tokens = n_tokens;
  if (const int32_t local = std::max(group.window, group.chunk); local > 0) {
    const int64_t span = int64_t{shape.slack_tokens} + std::min(shape.step_tokens, n_tokens);
    tokens = std::min(tokens, int64_t{local} - 1 + span);
  }
  return tokens * group.token_bytes();
}

PlanPoint plan_point(std::span<const CacheGroup> groups, const ArenaLayout& layout,
                     int32_t n_tokens, const StepShape& shape) {
  const StepShape generating = resident(shape);
  PlanPoint point{.n_tokens = n_tokens, .pages = sequence_pages(groups, n_tokens, generating)};
  for (size_t g = 0; g < groups.size(); ++g) {
    point.group_bytes.push_back(point.pages[g] * layout.groups[g].page_bytes);
    point.bytes += point.group_bytes.back();
    point.live_bytes += live_bytes(groups[g], n_tokens, generating);
  }
  point.n_sequences = sequences_that_fit(groups, layout, n_tokens, shape);
  return point;
}

std::vector<int32_t> curve_lengths(int32_t limit) {
  std::vector<int32_t> lengths;
  for (int64_t n = 1024; n < limit; n *= 2) lengths.push_back(static_cast<int32_t>(n));
  lengths.push_back(limit);
  return lengths;
}

}  // namespace ashlar
