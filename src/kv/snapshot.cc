// Snapshots: copies of a sequence's states at block boundaries, never written again.

#include <algorithm>
#include <climits>

#include "base/checked.h"
#include "kv/cache.h"

namespace ashlar {

int32_t Cache::next_stop(const Tables& tables) const {
  if (state_groups_.empty()) return INT32_MAX;
  const auto next = std::upper_bound(tables.stops.begin(), tables.stops.end(), tables.n_tokens);
  return next == tables.stops.end() ? INT32_MAX : *next;
}

bool Cache::snapshot(Tables* tables) {
  if (state_groups_.empty() || tables->resume != kNoNode) return false;
  CHECK(tables->n_tokens > 0 && tables->n_tokens % block_tokens_ == 0 &&
            static_cast<int32_t>(tables->nodes.size()) * block_tokens_ >= tables->n_tokens,
        "a snapshot at {} tokens, {} blocks of them shareable", tables->n_tokens,
        tables->nodes.size());
  return take_snapshot(tables, tables->n_tokens, 0);
}

// The last block boundary that this commit reaches, if its state is at hand: with slots every
// token's is, without only the last one's.
void Cache::keep_states(Tables* tables, int32_t end) {
  const int32_t boundary = end - end % block_tokens_;
  const bool with_slots = has_slots(*tables);
  if (boundary <= tables->n_tokens || (boundary != end && !with_slots)) return;
  const bool stop = std::binary_search(tables->stops.begin(), tables->stops.end(), boundary);
  if (!stop && !(options_.snapshot_decode && boundary >= tables->n_prompt)) return;
  take_snapshot(tables, boundary, with_slots ? boundary - tables->n_tokens : 0);
}

bool Cache::has_slots(const Tables& tables) const {
  const size_t g = state_groups_[0];
  return static_cast<int64_t>(tables.pages[g].size()) > groups_[g].n_layers();
}

bool Cache::take_snapshot(Tables* tables, int32_t boundary, int32_t slot) {
  const NodeId node = tables->nodes[static_cast<size_t>(boundary / block_tokens_ - 1)];
  if (index_.entry(node, index_.snapshots()).page == kNoPage) {
    std::fill(demand_.begin(), demand_.end(), 0);
    for (const size_t g : state_groups_) demand_[g] = groups_[g].n_layers();
    if (!make_room(demand_)) {
      ++stats_.n_snapshots_refused;
      return false;
    }
    copy_states(*tables, slot, node);
    ++stats_.n_snapshots;
  } else {
    refresh_snapshot(node);
  }
  const NodeId before = std::exchange(tables->snapshot, node);
  if (before == kNoNode || before == node || !superseded(before)) return true;
  // While generating, only the latest is kept, beside the prompt's last.
  const int32_t before_tokens = (index_.node(before).block + 1) * block_tokens_;
  if (before_tokens >= tables->n_prompt) {
    evict(before, index_.snapshots());
  } else if (boundary < tables->n_prompt) {
    index_.relist(before, index_.snapshots(), Worth::cheap);
  }
  return true;
}

void Cache::copy_states(const Tables& tables, int32_t slot, NodeId node) {
  auto number = static_cast<uint32_t>(snapshots_.size());
  if (free_snapshots_.empty()) {
    snapshots_.emplace_back();
  } else {
    number = free_snapshots_.back();
    free_snapshots_.pop_back();
  }
  std::vector<uint32_t>& pages = snapshots_[number];
  for (const size_t g : state_groups_) {
    const int64_t n_layers = groups_[g].n_layers();
    for (int64_t layer = 0; layer < n_layers; ++layer) {
      const auto at = static_cast<uint32_t>(pages.size());
      pages.push_back(arena_.allocate(g, {kSnapshot | number, at}));
      const uint32_t from = tables.pages[g][static_cast<size_t>(slot * n_layers + layer)];
      copies_.push_back({g, from, pages.back()});
    }
  }
  index_.put(node, index_.snapshots(), number);
  index_.list(node, index_.snapshots(), Worth::useful);
}

void Cache::refresh_snapshot(NodeId node) {
  const Entry& entry = index_.entry(node, index_.snapshots());
  if (entry.page != kNoPage && entry.refs == 0)
    index_.relist(node, index_.snapshots(), Worth::useful);
}

// A snapshot with one deeper snapshot below it and no branch between serves only those who leave
// the text in the middle.
bool Cache::superseded(NodeId node) const {
  const Entry& entry = index_.entry(node, index_.snapshots());
  return entry.page != kNoPage && entry.refs == 0 && index_.node(node).n_covered == 2;
}

void Cache::resume_state(Tables* tables) {
  const NodeId node = std::exchange(tables->resume, kNoNode);
  const auto& pages = snapshots_[index_.entry(node, index_.snapshots()).page];
  size_t at = 0;
  for (const size_t g : state_groups_) {
    for (int64_t layer = 0; layer < groups_[g].n_layers(); ++layer)
      copies_.push_back({g, pages[at++], tables->pages[g][static_cast<size_t>(layer)]});
  }
  let_go(node, index_.snapshots(), Worth::useful);
}

// With slots, the state after the last accepted token becomes the sequence's.
void Cache::rotate_states(Tables* tables, int32_t end) {
  if (state_groups_.empty() || !has_slots(*tables)) return;
  const int64_t slot = end - tables->n_tokens;
  for (const size_t g : state_groups_) {
    auto& pages = tables->pages[g];
    const int64_t n_layers = groups_[g].n_layers();
    CHECK((slot + 1) * n_layers <= static_cast<int64_t>(pages.size()),
          "group {}: {} tokens accepted, {} states", g, slot, pages.size());
    std::swap_ranges(pages.begin(), pages.begin() + n_layers, pages.begin() + slot * n_layers);
  }
}

int32_t Cache::default_interval(std::span<const CacheGroup> groups, const ArenaLayout& layout,
                                int32_t block_tokens) {
  constexpr int64_t kLeast = 512, kMost = 8192;
  int64_t state = 0, token = 0;
  for (size_t g = 0; g < groups.size(); ++g) {
    if (groups[g].has_tokens()) {
      token += groups[g].token_bytes();
    } else {
      state += groups[g].n_layers() * layout.groups[g].page_bytes;
    }
  }
  const int64_t tokens = token == 0 ? kMost : state / token;
  return static_cast<int32_t>(round_up(std::clamp(tokens, kLeast, kMost), block_tokens));
}

}  // namespace ashlar
