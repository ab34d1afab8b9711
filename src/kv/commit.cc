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
    CHECK(static_cast<int64_t>(tables->pages[g].size()) * page_tokens_ >= end,
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
  for (auto block = static_cast<int32_t>(tables->nodes.size()); (block + 1) * page_tokens_ <= end;
       ++block) {
    const NodeId parent = tables->nodes.empty() ? kNoNode : tables->nodes.back();
    const NodeId node =
        append_node(tables, tokens.subspan(static_cast<size_t>(block * page_tokens_),
                                           static_cast<size_t>(page_tokens_)));
    index_.hold(node);
    if (parent != kNoNode) index_.let_go(parent);
    for (size_t c = 0; c < token_groups_.size(); ++c) give_block(tables, c, block, node);
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
void Cache::give_block(Tables* tables, size_t column, int32_t block, NodeId node) {
  const size_t g = token_groups_[column];
  uint32_t& page = tables->pages[g][static_cast<size_t>(block)];
  if (page == kNoPage) return;
  const uint32_t first = index_.entry(node, column).page;
  if (first == kNoPage) {
    index_.put(node, column, page);
    arena_.set_owner(g, page, {kBlock | node, 0});
    --held_[g];
    hold(node, column);
    return;
  }
  drop_page(g, page);
  page = first;
  hold(node, column);
}

// Pages behind the window leave the table, and stay cached until room is needed. The last one is
// listed first, to be lost first: the further into a text, the fewer prompts share it.
void Cache::leave_behind(Tables* tables, int32_t end) {
  for (size_t c = 0; c < token_groups_.size(); ++c) {
    const size_t g = token_groups_[c];
    if (kind_row(groups_[g].kind).needs_all) continue;
    const int32_t from = first_needed(groups_[g], std::max(0, end - options_.slack_tokens));
    int32_t& first = tables->first_page[g];
    const int32_t keep_from = std::max(first, from / page_tokens_);
    for (int32_t block = keep_from; block > first; --block) {
      const auto at = static_cast<size_t>(block - 1);
      drop_block(tables, c, at, worth_behind(*tables, g, block - 1));
      tables->pages[g][at] = kNoPage;
    }
    first = keep_from;
  }
}

// Useful when a resume at the next boundary after the block would read it.
Worth Cache::worth_behind(const Tables& tables, size_t group, int32_t block) const {
  const auto& stops = tables.stops;
  const auto next = std::upper_bound(stops.begin(), stops.end(), block * page_tokens_);
  if (next == stops.end()) return Worth::cheap;
  return first_needed(groups_[group], *next) < (block + 1) * page_tokens_ ? Worth::useful
                                                                          : Worth::cheap;
}

}  // namespace ashlar
