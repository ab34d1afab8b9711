// What must be true of the prefix index at every moment (docs/contracts.md, index).

#include "base/check.h"
#include "kv/index.h"

namespace ashlar {

void PrefixIndex::audit() const {
  std::vector<int32_t> n_children(nodes_.size(), 0), n_covered(nodes_.size(), 0);
  size_t n_used = 0, n_ghosts = 0, n_pageless = 0, n_unheld = 0, n_listed = 0;
  for (NodeId id = 0; id < nodes_.size(); ++id) {
    const Node& node = nodes_[id];
    if (!node.used) continue;
    ++n_used;
    CHECK(find(node.key) == id, "node {} is not found by its key", id);
    int32_t n_pages = 0;
    for (size_t column = 0; column < n_columns_; ++column) {
      const Entry& e = entry(id, column);
      n_pages += e.page != kNoPage;
      CHECK(e.page != kNoPage || e.refs == 0, "node {} column {} is held without a page", id,
            column);
      n_unheld += e.page != kNoPage && e.refs == 0;
      // What is dead is listed as such, and nothing else is.
      const bool dead = e.worth == Worth::dead;
      CHECK(e.page == kNoPage || e.refs > 0 || dead != covered(id),
            "node {} column {}: worth {} and covered {}", id, column, static_cast<int>(e.worth),
            covered(id));
    }
    CHECK(n_pages == node.n_pages, "node {}: {} pages, {} counted", id, n_pages, node.n_pages);
    const bool ghost = n_pages == 0 && node.n_children == 0 && node.n_holds == 0;
    CHECK(ghost == node.ghost, "node {} is a ghost or not", id);
    n_ghosts += ghost;
    n_pageless += n_pages == 0;
    if (with_snapshots_) n_covered[id] += entry(id, snapshots()).page != kNoPage;
    if (node.parent == kNoNode) continue;
    CHECK(nodes_[node.parent].used && node.block == nodes_[node.parent].block + 1,
          "node {} at block {} under node {}", id, node.block, node.parent);
    ++n_children[node.parent];
    n_covered[node.parent] += node.n_covered > 0;
  }
  for (NodeId id = 0; id < nodes_.size(); ++id) {
    CHECK(n_children[id] == nodes_[id].n_children, "node {}: children", id);
    CHECK(n_covered[id] == nodes_[id].n_covered, "node {}: {} covered, {} counted", id,
          n_covered[id], nodes_[id].n_covered);
  }
  CHECK(n_used == n_nodes_ && n_ghosts == n_ghosts_ && n_pageless == n_pageless_);
  for (size_t worth = 0; worth < kWorths; ++worth) {
    uint32_t previous = kNoNode;
    for (uint32_t i = lists_[worth].oldest; i != kNoNode; i = entries_[i].next) {
      const Entry& e = entries_[i];
      CHECK(e.page != kNoPage && e.refs == 0 && e.worth == static_cast<Worth>(worth) &&
                e.previous == previous,
            "entry {} is listed where it does not belong", i);
      previous = i;
      ++n_listed;
    }
    CHECK(lists_[worth].youngest == previous);
  }
  CHECK(n_listed == n_unheld, "{} entries listed, {} held by nobody", n_listed, n_unheld);
}

}  // namespace ashlar
