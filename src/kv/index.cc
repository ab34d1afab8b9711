#include "kv/index.h"

#include <algorithm>
#include <bit>

#include "base/check.h"

namespace ashlar {
namespace {

std::span<const std::byte> bytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

// Places for so many nodes at least and at most, before it has to grow.
constexpr size_t kLeastNodes = 512;
constexpr size_t kMostNodes = size_t{1} << 18;

}  // namespace

PrefixIndex::PrefixIndex(size_t n_columns, bool with_snapshots, size_t max_pageless,
                         size_t n_expected)
    : n_columns_(n_columns), with_snapshots_(with_snapshots), max_pageless_(max_pageless) {
  // Growing in the middle of a step is a pause; memory nobody touches costs nothing.
  const size_t n_nodes = std::min(kMostNodes, std::max(kLeastNodes, n_expected));
  nodes_.reserve(n_nodes);
  entries_.reserve(n_nodes * n_columns);
  places_.resize(std::bit_ceil(2 * n_nodes));
}

// The lengths stand between the parts, so that no two pairs make the same text.
Digest PrefixIndex::root(std::string_view salt, std::string_view adapter) {
  const uint64_t lengths[] = {salt.size(), adapter.size()};
  const Digest salted = sha256_(std::as_bytes(std::span(lengths)), bytes(salt));
  return sha256_(salted, bytes(adapter));
}

Digest PrefixIndex::next_key(const Digest& parent, std::span<const int32_t> block) {
  return sha256_(parent, std::as_bytes(block));
}

// Where the key is or would go.
size_t PrefixIndex::place_of(const Digest& key) const {
  const size_t mask = places_.size() - 1;
  const auto tag = static_cast<uint32_t>(key_of(key));
  size_t place = tag & mask;
  while (places_[place].id != kNoNode &&
         (places_[place].tag != tag || nodes_[places_[place].id].key != key)) {
    place = (place + 1) & mask;
  }
  return place;
}

NodeId PrefixIndex::find(const Digest& key, NodeId guess) const {
  if (guess < nodes_.size() && nodes_[guess].used && nodes_[guess].key == key) return guess;
  return places_[place_of(key)].id;
}

void PrefixIndex::grow() {
  places_.assign(places_.size() * 2, {});
  for (NodeId id = 0; id < nodes_.size(); ++id) {
    const Digest& key = nodes_[id].key;
    if (nodes_[id].used) places_[place_of(key)] = {static_cast<uint32_t>(key_of(key)), id};
  }
}

// Linear probing without gravestones: what stands behind the gap and may move up, does.
void PrefixIndex::erase_key(const Digest& key) {
  const size_t mask = places_.size() - 1;
  size_t gap = place_of(key);
  for (size_t i = (gap + 1) & mask; places_[i].id != kNoNode; i = (i + 1) & mask) {
    const size_t home = places_[i].tag & mask;
    if (((i - home) & mask) < ((i - gap) & mask)) continue;
    places_[gap] = places_[i];
    gap = i;
  }
  places_[gap] = {};
}

NodeId PrefixIndex::insert(const Digest& key, NodeId parent, const Digest* plain) {
  if (2 * (n_nodes_ + 1) > places_.size()) grow();
  NodeId id = static_cast<NodeId>(nodes_.size());
  if (free_nodes_.empty()) {
    nodes_.emplace_back();
    entries_.resize(entries_.size() + n_columns_);
  } else {
    id = free_nodes_.back();
    free_nodes_.pop_back();
  }
  nodes_[id] = {.key = key,
                .parent = parent,
                .block = parent == kNoNode ? 0 : nodes_[parent].block + 1,
                .used = true};
  places_[place_of(key)] = {static_cast<uint32_t>(key_of(key)), id};
  ++n_nodes_;
  ++n_pageless_;
  if (parent != kNoNode) {
    ++nodes_[parent].n_children;
    update_ghost(parent);
  } else if (plain != nullptr) {
    first_block_of_[id] = key_of(*plain);
    ++first_blocks_[key_of(*plain)];
  }
  return id;
}

void PrefixIndex::hold(NodeId id) {
  ++nodes_[id].n_holds;
  update_ghost(id);
}

void PrefixIndex::let_go(NodeId id) {
  CHECK(nodes_[id].n_holds > 0, "node {} is held by nobody", id);
  --nodes_[id].n_holds;
  update_ghost(id);
  forget_ghosts();
}

void PrefixIndex::put(NodeId id, size_t column, uint32_t page) {
  Entry& entry = entries_[id * n_columns_ + column];
  CHECK(entry.page == kNoPage, "node {} column {} has a page already", id, column);
  entry = Entry();
  entry.page = page;
  if (nodes_[id].n_pages++ == 0) --n_pageless_;
  update_ghost(id);
  if (with_snapshots_ && column == snapshots()) cover(id);
}

uint32_t PrefixIndex::take(NodeId id, size_t column) {
  const auto index = static_cast<uint32_t>(id * n_columns_ + column);
  Entry& entry = entries_[index];
  CHECK(entry.page != kNoPage && entry.refs == 0, "node {} column {}: nothing to take", id, column);
  unlist(index);
  const uint32_t page = entry.page;
  entry = Entry();
  if (--nodes_[id].n_pages == 0) ++n_pageless_;
  if (with_snapshots_ && column == snapshots()) uncover(id);
  update_ghost(id);
  forget_ghosts();
  return page;
}

void PrefixIndex::set_page(NodeId id, size_t column, uint32_t page) {
  entries_[id * n_columns_ + column].page = page;
}

bool PrefixIndex::hold(NodeId id, size_t column) {
  const auto index = static_cast<uint32_t>(id * n_columns_ + column);
  Entry& entry = entries_[index];
  DCHECK(entry.page != kNoPage, "node {} column {} has no page to hold", id, column);
  if (entry.refs++ > 0) return false;
  unlist(index);
  return true;
}

bool PrefixIndex::let_go(NodeId id, size_t column, Worth worth) {
  Entry& entry = entries_[id * n_columns_ + column];
  CHECK(entry.refs > 0, "node {} column {} is held by nobody", id, column);
  if (--entry.refs > 0) return false;
  list(id, column, worth);
  return true;
}

void PrefixIndex::relist(NodeId id, size_t column, Worth worth) {
  unlist(static_cast<uint32_t>(id * n_columns_ + column));
  list(id, column, worth);
}

// The links of an entry that is not listed are kNoNode, and it heads no list.
void PrefixIndex::list(NodeId id, size_t column, Worth worth) {
  const auto index = static_cast<uint32_t>(id * n_columns_ + column);
  if (!covered(id)) worth = Worth::dead;
  List& list = lists_[static_cast<size_t>(worth)];
  Entry& entry = entries_[index];
  entry.worth = worth;
  entry.previous = list.youngest;
  entry.next = kNoNode;
  (list.youngest == kNoNode ? list.oldest : entries_[list.youngest].next) = index;
  list.youngest = index;
}

void PrefixIndex::unlist(uint32_t index) {
  Entry& entry = entries_[index];
  List& list = lists_[static_cast<size_t>(entry.worth)];
  if (entry.previous != kNoNode) {
    entries_[entry.previous].next = entry.next;
  } else if (list.oldest == index) {
    list.oldest = entry.next;
  }
  if (entry.next != kNoNode) {
    entries_[entry.next].previous = entry.previous;
  } else if (list.youngest == index) {
    list.youngest = entry.previous;
  }
  entry.previous = entry.next = kNoNode;
}

// Only the first snapshot below a node and the last one change what its ancestors are worth.
void PrefixIndex::cover(NodeId id) {
  for (; id != kNoNode; id = nodes_[id].parent) {
    if (nodes_[id].n_covered++ > 0) return;
    relist_node(id, Worth::useful);
  }
}

void PrefixIndex::uncover(NodeId id) {
  for (; id != kNoNode; id = nodes_[id].parent) {
    if (--nodes_[id].n_covered > 0) return;
    relist_node(id, Worth::dead);
  }
}

void PrefixIndex::relist_node(NodeId id, Worth worth) {
  for (size_t column = 0; column < n_token_columns(); ++column) {
    const Entry& entry = this->entry(id, column);
    if (entry.page != kNoPage && entry.refs == 0) relist(id, column, worth);
  }
}

bool PrefixIndex::victim(NodeId* id, size_t* column) const {
  for (const List& list : lists_) {
    if (list.oldest == kNoNode) continue;
    *id = static_cast<NodeId>(list.oldest / n_columns_);
    *column = list.oldest % n_columns_;
    return true;
  }
  return false;
}

void PrefixIndex::update_ghost(NodeId id) {
  Node& node = nodes_[id];
  const bool ghost = node.n_pages == 0 && node.n_children == 0 && node.n_holds == 0;
  if (ghost == node.ghost) return;
  node.ghost = ghost;
  if (ghost) {
    node.previous = youngest_ghost_;
    node.next = kNoNode;
    (youngest_ghost_ == kNoNode ? oldest_ghost_ : nodes_[youngest_ghost_].next) = id;
    youngest_ghost_ = id;
    ++n_ghosts_;
    return;
  }
  (node.previous == kNoNode ? oldest_ghost_ : nodes_[node.previous].next) = node.next;
  (node.next == kNoNode ? youngest_ghost_ : nodes_[node.next].previous) = node.previous;
  --n_ghosts_;
}

// A ghost is a leaf; with it its parent may become one in turn.
void PrefixIndex::forget_ghosts() {
  while (n_pageless_ > max_pageless_ && oldest_ghost_ != kNoNode) forget_oldest_ghost();
}

void PrefixIndex::forget_oldest_ghost() {
  const NodeId id = oldest_ghost_;
  Node& node = nodes_[id];
  oldest_ghost_ = node.next;
  (node.next == kNoNode ? youngest_ghost_ : nodes_[node.next].previous) = kNoNode;
  --n_ghosts_;
  --n_pageless_;
  erase_key(node.key);
  const NodeId parent = node.parent;
  if (const auto first = first_block_of_.find(id); first != first_block_of_.end()) {
    if (--first_blocks_[first->second] == 0) first_blocks_.erase(first->second);
    first_block_of_.erase(first);
  }
  node = {};
  free_nodes_.push_back(id);
  --n_nodes_;
  if (parent == kNoNode) return;
  --nodes_[parent].n_children;
  update_ghost(parent);
}

}  // namespace ashlar
