// commit: what a step wrote becomes shareable, and what no later query reads leaves the table.

#include <algorithm>

#include "base/checked.h"
#include "kv/cache.h"

namespace ashlar {

void Cache::commit(Tables* tables, int32_t end, std::span<const int32_t> tokens) {
  CHECK(end >= tables->n_tokens, "commit {} after {}", end, tables->n_tokens);
  if (end == tables->n_tokens) return;
  CHECK(!tail_is_shared(*tables) && tables->resume == kNoNode, "commit {} was not reserved", end);
  for (const size_t g : token_groups_) {
    CHECK(static_cast<int64_t>(tables->pages[g].size()) * groups_[g].page_tokens >= end,
          "group {}: commit {} beyond the reservation", g, end);
  }
  if (!tokens.empty()) {
    CHECK(static_cast<int64_t>(tokens.size()) >= end, "commit {} of {} tokens", end, tokens.size());
    publish(tables, end, tokens);
    if (!state_groups_.empty()) keep_states(tables, end);
  }
  rotate_states(tables, end);
  leave_behind(tables, end);
  tables->n_tokens = end;
}

void Cache::publish(Tables* tables, int32_t end, std::span<const int32_t> tokens) {
  for (auto block = static_cast<int32_t>(tables->nodes.size()); (block + 1) * block_tokens_ <= end;
       ++block) {
    const NodeId parent = tables->nodes.empty() ? kNoNode : tables->nodes.back();
    const NodeId node =
        append_node(tables, tokens.subspan(static_cast<size_t>(block * block_tokens_),
                                           static_cast<size_t>(block_tokens_)));
    index_.hold(node);
    if (parent != kNoNode) index_.let_go(parent);
    for (const size_t g : token_groups_) {
      const int64_t n = pages_per_block_[g];
      for (int64_t i = block * n; i < (block + 1) * n; ++i) give_page(tables, g, i, node);
    }
  }
}

// The node of the next block, found or new. Nobody holds it yet.
NodeId Cache::append_node(Tables* tables, std::span<const int32_t> block) {
  const NodeId parent = tables->nodes.empty() ? kNoNode : tables->nodes.back();
  const Digest key =
      index_.next_key(parent == kNoNode ? tables->root : index_.node(parent).key, block);
  NodeId node = index_.find(key);
  if (node == kNoNode) {
    Digest plain;
    if (parent == kNoNode) plain = index_.next_key(index_.root({}, {}), block);
    node = index_.insert(key, parent, parent == kNoNode ? &plain : nullptr);
  }
  tables->nodes.push_back(node);
  return node;
}

// The first writer's page stays; a later one's table takes it and its own page goes.
void Cache::give_page(Tables* tables, size_t group, int64_t i, NodeId node) {
  uint32_t& page = tables->pages[group][static_cast<size_t>(i)];
  if (page == kNoPage) return;
  const size_t column = column_of(group, i);
  const uint32_t first = index_.entry(node, column).page;
  if (first == kNoPage) {
    index_.put(node, column, page);
    arena_.set_owner(group, page,
                     {kBlock | node, static_cast<uint32_t>(column - first_column_[group])});
    --held_[group];
    hold(node, column);
    return;
  }
  drop_page(group, page);
  page = first;
  hold(node, column);
}

// Pages behind the window leave the table, and stay cached until room is needed. The last one is
// listed first, to be lost first: the further into a text, the fewer prompts share it.
void Cache::leave_behind(Tables* tables, int32_t end) {
  for (const size_t g : token_groups_) {
    if (kind_row(groups_[g].kind).needs_all) continue;
    const int32_t from = first_needed(groups_[g], std::max(0, end - options_.slack_tokens));
    int32_t& first = tables->first_page[g];
    const int32_t keep_from = std::max(first, from / groups_[g].page_tokens);
    for (int32_t i = keep_from - 1; i >= first; --i) {
      let_page_go(tables, g, i, worth_behind(*tables, g, i));
      tables->pages[g][static_cast<size_t>(i)] = kNoPage;
    }
    first = keep_from;
  }
}

// Useful when a resume at the next boundary after the page's first token would read it.
Worth Cache::worth_behind(const Tables& tables, size_t group, int32_t i) const {
  const auto& stops = tables.stops;
  const int32_t page_tokens = groups_[group].page_tokens;
  const auto next = std::upper_bound(stops.begin(), stops.end(), i * page_tokens);
  if (next == stops.end()) return Worth::cheap;
  return first_needed(groups_[group], *next) < (i + 1) * page_tokens ? Worth::useful : Worth::cheap;
}

}  // namespace ashlar
