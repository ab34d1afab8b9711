// The cache's invariants (docs/contracts.md): each page has one owner, counts equal references.

#include <algorithm>
#include <map>

#include "base/checked.h"
#include "kv/cache.h"

namespace ashlar {

void Cache::audit(std::span<const Tables* const> all_tables) const {
  arena_.audit();
  index_.audit();
  int64_t n_enrolled = 0;
  for (const Tables* tables : all_tables) {
    if (tables->id == Tables::kUnknown) {
      CHECK(tables->pages.empty() && tables->nodes.empty(), "pages in tables the cache forgot");
      continue;
    }
    CHECK(tables->id < tables_.size() && tables_[tables->id] == tables, "tables have moved");
    audit_tables(*tables);
    ++n_enrolled;
  }
  CHECK(n_enrolled == std::count_if(tables_.begin(), tables_.end(),
                                    [](const Tables* tables) { return tables != nullptr; }),
        "the cache knows more tables than these {}", n_enrolled);
  audit_references(all_tables);
  audit_owners();
}

void Cache::audit_tables(const Tables& tables) const {
  const auto n_nodes = static_cast<int64_t>(tables.nodes.size());
  CHECK(n_nodes * block_tokens_ < tables.n_tokens + block_tokens_, "{} blocks of {} tokens",
        n_nodes, tables.n_tokens);
  for (size_t i = 0; i < tables.nodes.size(); ++i) {
    const Node& node = index_.node(tables.nodes[i]);
    CHECK(node.used && node.block == static_cast<int32_t>(i) &&
              node.parent == (i == 0 ? kNoNode : tables.nodes[i - 1]),
          "block {} of a table is no block of its chain", i);
  }
  for (const size_t g : token_groups_) {
    const auto& table = tables.pages[g];
    const int32_t first = tables.first_page[g];
    const int32_t slack = std::max(0, tables.n_tokens - options_.slack_tokens);
    const int32_t page_tokens = groups_[g].page_tokens;
    CHECK(first >= first_needed(groups_[g], slack) / page_tokens &&
              first <= first_needed(groups_[g], tables.n_tokens) / page_tokens,
          "group {}: a table of {} tokens begins at page {}", g, tables.n_tokens, first);
    const BlockRange read = resume_blocks(groups_[g], tables.n_tokens);
    CHECK(static_cast<int64_t>(table.size()) >= read.last, "group {}: a table is too short", g);
    for (int64_t i = 0; i < std::ssize(table); ++i) {
      const uint32_t page = table[static_cast<size_t>(i)];
      CHECK((i >= first) == (page != kNoPage), "group {} page {} of a table", g, i);
      if (i < first) continue;
      if (i < shared_pages(tables, g)) {
        const Entry& entry = index_.entry(node_of(tables, g, i), column_of(g, i));
        CHECK(entry.page == page, "group {} position {}: two pages", g, i);
      } else {
        const PageOwner owner = {tables.id, static_cast<uint32_t>(i)};
        CHECK(arena_.owner(g, page) == owner, "group {} page {}: owner", g, page);
      }
    }
  }
  for (const size_t g : state_groups_) {
    const auto n_pages = static_cast<int64_t>(tables.pages[g].size());
    CHECK(n_pages % groups_[g].n_layers() == 0, "group {}: {} state pages", g, n_pages);
    CHECK(n_pages == 0 || tables.resume == kNoNode, "group {}: states and a snapshot to come", g);
    for (const uint32_t page : tables.pages[g])
      CHECK(arena_.owner(g, page).who == tables.id, "group {} page {}: owner", g, page);
  }
}

// Holders counted again from the tables.
void Cache::audit_references(std::span<const Tables* const> all_tables) const {
  std::map<std::pair<NodeId, size_t>, uint32_t> refs;
  std::map<NodeId, int32_t> holds;
  Counts held(groups_.size(), 0);
  for (const Tables* tables : all_tables) {
    if (tables->id == Tables::kUnknown) continue;
    if (!tables->nodes.empty()) ++holds[tables->nodes.back()];
    if (tables->resume != kNoNode) ++refs[{tables->resume, index_.snapshots()}];
    for (const size_t g : token_groups_) {
      const auto& table = tables->pages[g];
      for (int64_t i = tables->first_page[g]; i < std::ssize(table); ++i) {
        if (i < shared_pages(*tables, g)) {
          ++refs[{node_of(*tables, g, i), column_of(g, i)}];
        } else {
          ++held[g];
        }
      }
    }
    for (const size_t g : state_groups_) held[g] += static_cast<int64_t>(tables->pages[g].size());
  }
  for (NodeId node = 0; node < index_.node_limit(); ++node) {
    if (!index_.node(node).used) continue;
    const auto found = holds.find(node);
    CHECK(index_.node(node).n_holds == (found == holds.end() ? 0 : found->second),
          "node {}: holders", node);
    for (size_t c = 0; c < index_.n_columns(); ++c) {
      const auto ref = refs.find({node, c});
      const uint32_t n = ref == refs.end() ? 0 : ref->second;
      CHECK(index_.entry(node, c).refs == n, "node {} column {}: {} refs, {} tables", node, c,
            index_.entry(node, c).refs, n);
      if (n == 0) continue;
      if (c < column_groups_.size()) {
        ++held[column_groups_[c]];
      } else {
        for (const size_t g : state_groups_) held[g] += groups_[g].n_layers();
      }
    }
  }
  for (size_t g = 0; g < groups_.size(); ++g)
    CHECK(held[g] == held_[g], "group {}: {} pages held, {} counted", g, held[g], held_[g]);
}

// The index's pages know it, and together with the tables' own they are all there are.
void Cache::audit_owners() const {
  Counts pages(groups_.size(), 0);
  for (const Tables* tables : tables_) {
    if (tables == nullptr) continue;
    for (size_t g = 0; g < groups_.size(); ++g) {
      const int64_t own = groups_[g].has_tokens()
                              ? std::max<int64_t>(shared_pages(*tables, g), tables->first_page[g])
                              : 0;
      pages[g] += std::max<int64_t>(0, std::ssize(tables->pages[g]) - own);
    }
  }
  for (NodeId node = 0; node < index_.node_limit(); ++node) {
    for (size_t c = 0; c < index_.n_columns(); ++c) {
      const uint32_t page = index_.entry(node, c).page;
      if (page == kNoPage) continue;
      if (c < column_groups_.size()) {
        const size_t g = column_groups_[c];
        const PageOwner owner = {kBlock | node, static_cast<uint32_t>(c - first_column_[g])};
        CHECK(arena_.owner(g, page) == owner, "node {} column {}: owner", node, c);
        ++pages[g];
        continue;
      }
      uint32_t at = 0;
      for (const size_t g : state_groups_) {
        for (int64_t layer = 0; layer < groups_[g].n_layers(); ++layer, ++at) {
          const PageOwner owner = {kSnapshot | page, at};
          CHECK(arena_.owner(g, snapshots_[page][at]) == owner, "snapshot {}: owner", page);
        }
        pages[g] += groups_[g].n_layers();
      }
    }
  }
  for (size_t g = 0; g < groups_.size(); ++g) {
    CHECK(pages[g] == arena_.live_pages(g), "group {}: {} pages with an owner, {} live", g,
          pages[g], arena_.live_pages(g));
  }
}

}  // namespace ashlar
