#include "working_set.h"

#include <algorithm>
#include <unordered_set>

#include "kv/plan.h"
#include "play.h"
#include "prefix_hash.h"

namespace ashlar::reuse {
namespace {

struct Boundary {
  size_t request = 0;
  int32_t n_tokens = 0;
};

// Where texts are resumed, or would be if they went on.
std::vector<Boundary> boundaries(const std::vector<Request>& trace) {
  const std::vector<int32_t> known = known_tokens(trace, kPageTokens);
  std::vector<Boundary> out;
  for (size_t i = 0; i < trace.size(); ++i) {
    out.push_back({i, known[i]});
    out.push_back({i, trace[i].n_computed() / kPageTokens * kPageTokens});
  }
  return out;
}

int32_t longest(const std::vector<Request>& trace) {
  int32_t n = 0;
  for (const Request& request : trace) n = std::max(n, request.n_tokens());
  return n;
}

}  // namespace

int64_t everything_bytes(const std::vector<Request>& trace, std::span<const CacheGroup> groups) {
  constexpr int64_t kEnough = int64_t{1} << 40;  // the slabs' size hardly depends on it
  constexpr auto kOthers = static_cast<int64_t>(kMaxRunning) - 1;
  std::vector<std::vector<uint64_t>> hashes;
  for (const Request& request : trace) hashes.push_back(prefix_hashes(request.tokens, kPageTokens));
  std::vector<int64_t> pages;
  for (const CacheGroup& group : groups) {
    const bool states = kind_row(group.kind).needs_snapshot;
    std::unordered_set<uint64_t> once;
    for (const Boundary& at : boundaries(trace)) {
      const auto last = static_cast<size_t>(at.n_tokens / kPageTokens);
      const auto first = static_cast<size_t>(resume_blocks(group, at.n_tokens).first);
      const auto& of = hashes[at.request];
      if (states && last > 0) once.insert(of[last - 1]);
      if (!states)
        once.insert(of.begin() + static_cast<int64_t>(first),
                    of.begin() + static_cast<int64_t>(last));
    }
    const auto n = static_cast<int64_t>(once.size()) * (states ? group.n_layers() : 1);
    const int64_t step = most_pages(group, longest(trace), {.step_tokens = kStepTokens});
    const int64_t page = most_pages(group, longest(trace), {.step_tokens = kPageTokens});
    const bool shares = kind_row(group.kind).needs_all;
    pages.push_back(n + (shares ? kOthers + 1 : step + kOthers * page));
  }
  const ArenaLayout layout = *arena_layout(groups, kEnough);
  return slabs_needed(layout, pages) * layout.slab_bytes;
}

}  // namespace ashlar::reuse
