// Room: what fits beside the pages that are held, and how the rest gives way. Because pages move,
// what fits depends on counts alone: slabs needed = sum over groups of held pages, rounded up to
// slabs.

#include <algorithm>

#include "base/checked.h"
#include "kv/cache.h"
#include "kv/plan.h"

namespace ashlar {

bool Cache::feasible(std::span<const int64_t> demand) const {
  return slabs_needed(arena_.layout(), held_, demand) <= arena_.layout().n_slabs;
}

// All or nothing: nothing is evicted for a demand that cannot be met.
bool Cache::make_room(std::span<const int64_t> demand) {
  if (refuse_in_ > 0 && --refuse_in_ == 0) return false;
  if (arena_.fits(demand)) return true;
  if (!feasible(demand)) return false;
  const auto slabs_of = [&](size_t g) {
    return ceil_div(arena_.live_pages(g) + demand[g], arena_.layout().groups[g].pages_per_slab);
  };
  const auto too_many = [&] {
    int64_t slabs = 0;
    for (size_t g = 0; g < groups_.size(); ++g) slabs += slabs_of(g);
    return slabs > arena_.layout().n_slabs;
  };
  while (too_many()) evict_one();
  // There is room now, but in pieces: empty the slab that costs least to move.
  while (!arena_.fits(demand)) {
    size_t cheapest = groups_.size();
    int64_t least = 0;
    for (size_t g = 0; g < groups_.size(); ++g) {
      if (arena_.leased_slabs(g) <= slabs_of(g)) continue;
      const int64_t n_bytes = arena_.emptiest(g) * arena_.layout().groups[g].page_bytes;
      if (cheapest == groups_.size() || n_bytes < least) cheapest = g, least = n_bytes;
    }
    CHECK(cheapest < groups_.size(), "no slab to empty, though the pages fit");
    drain(cheapest);
  }
  return true;
}

void Cache::evict_one() {
  NodeId node = kNoNode;
  size_t column = 0;
  CHECK(index_.victim(&node, &column), "nothing to evict, though what is held leaves room");
  evict(node, column);
}

// With a page that every later boundary requires, what else its block has is useless.
void Cache::evict(NodeId node, size_t column) {
  ++stats_.n_evicted;
  if (column == index_.n_token_columns()) {
    const uint32_t number = index_.take(node, column);
    size_t at = 0;
    for (const size_t g : state_groups_) {
      for (int64_t layer = 0; layer < groups_[g].n_layers(); ++layer)
        free_page(g, snapshots_[number][at++]);
    }
    snapshots_[number].clear();
    free_snapshots_.push_back(number);
    return;
  }
  const size_t g = column_groups_[column];
  free_page(g, index_.take(node, column));
  if (!kind_row(groups_[g].kind).needs_all) return;
  for (size_t other = 0; other < index_.n_columns(); ++other) {
    const Entry& entry = index_.entry(node, other);
    if (entry.page != kNoPage && entry.refs == 0) evict(node, other);
  }
}

void Cache::drain(size_t group) {
  for (const MovedPage& moved : arena_.drain_emptiest(group)) {
    tell_owner(group, moved);
    copies_.push_back({group, moved.from, moved.to});
    if (poison_) copies_.push_back({.group = group, .to = moved.from});
    ++stats_.n_moved;
  }
}

void Cache::tell_owner(size_t group, const MovedPage& moved) {
  const uint32_t id = moved.owner.who & kOwnerId;
  const auto patch = [&](std::vector<uint32_t>& pages, size_t at) {
    if (at < pages.size() && pages[at] == moved.from) pages[at] = moved.to;
  };
  if ((moved.owner.who & ~kOwnerId) == kSnapshot) {
    return patch(snapshots_[id], moved.owner.index);
  }
  if ((moved.owner.who & ~kOwnerId) == kTable) {
    auto& pages = tables_[id]->pages[group];
    size_t at = moved.owner.index;
    // Slots of states change places; the owner's note does not follow.
    if (pages[at] != moved.from)
      at = std::find(pages.begin(), pages.end(), moved.from) - pages.begin();
    return patch(pages, at);
  }
  index_.set_page(id, first_column_[group] + moved.owner.index, moved.to);
  const auto first =
      static_cast<size_t>(index_.node(id).block) * static_cast<size_t>(pages_per_block_[group]);
  for (Tables* tables : tables_) {
    if (tables != nullptr) patch(tables->pages[group], first + moved.owner.index);
  }
}

void Cache::hold(NodeId node, size_t column) {
  if (index_.hold(node, column)) count_held(column, 1);
}

void Cache::let_go(NodeId node, size_t column, Worth worth) {
  if (index_.let_go(node, column, worth)) count_held(column, -1);
}

void Cache::count_held(size_t column, int64_t by) {
  if (column < column_groups_.size()) {
    held_[column_groups_[column]] += by;
    return;
  }
  for (const size_t g : state_groups_) held_[g] += by * groups_[g].n_layers();
}

bool Cache::has_room(int32_t n_tokens, int32_t step_tokens) const {
  return has_room(Tables(), n_tokens, step_tokens);
}

// What it holds already need not be found again, unless others hold it and it may leave: a window
// page, or a tail that it will copy.
bool Cache::has_room(const Tables& tables, int32_t n_tokens, int32_t step_tokens) const {
  Counts demand = sequence_pages(groups_, n_tokens, shape(step_tokens));
  for (size_t g = 0; g < groups_.size() && !tables.pages.empty(); ++g) {
    const bool by_token = groups_[g].has_tokens(), needs_all = kind_row(groups_[g].kind).needs_all;
    const int64_t n_shared = by_token ? shared_pages(tables, g) : 0;
    const int64_t n_staying =
        needs_all ? tables.n_tokens / block_tokens_ * int64_t{pages_per_block_[g]} : 0;
    const auto& pages = tables.pages[g];
    for (int64_t i = 0; i < std::ssize(pages); ++i) {
      if (pages[static_cast<size_t>(i)] == kNoPage) continue;
      demand[g] -= i < n_staying || i >= n_shared || !others_hold(tables, g, i);
    }
    demand[g] = std::max<int64_t>(0, demand[g]);
  }
  return feasible(demand);
}

StepShape Cache::shape(int32_t step_tokens) const {
  return {.step_tokens = step_tokens,
          .slack_tokens = options_.slack_tokens + options_.lookahead_tokens,
          .state_slots = options_.state_slots};
}

bool Cache::could_ever_fit(int32_t n_tokens, int32_t step_tokens) const {
  return sequence_fits(groups_, arena_.layout(), n_tokens, shape(step_tokens));
}

int32_t Cache::longest_sequence(int32_t step_tokens) const {
  constexpr int32_t kBeyondAnyModel = 1 << 30;
  return ashlar::longest_sequence(groups_, arena_.layout(), shape(step_tokens), kBeyondAnyModel);
}

int64_t Cache::unused_bytes() const {
  int64_t used = 0;
  for (size_t g = 0; g < groups_.size(); ++g)
    used += arena_.live_pages(g) * arena_.layout().groups[g].page_bytes;
  return arena_.layout().arena_bytes() - used;
}

}  // namespace ashlar
