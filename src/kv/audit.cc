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
  CHECK(n_nodes * page_tokens_ < tables.n_tokens + page_tokens_, "{} blocks of {} tokens", n_nodes,
        tables.n_tokens);
  for (size_t i = 0; i < tables.nodes.size(); ++i) {
    const Node& node = index_.node(tables.nodes[i]);
    CHECK(node.used && node.block == static_cast<int32_t>(i) &&
              node.parent == (i == 0 ? kNoNode : tables.nodes[i - 1]),
          "block {} of a table is no block of its chain", i);
  }
  for (size_t c = 0; c < token_groups_.size(); ++c) {
    const size_t g = token_groups_[c];
    const auto& table = tables.pages[g];
    const int32_t first = tables.first_page[g];
    const int32_t slack = std::max(0, tables.n_tokens - options_.slack_tokens);
    CHECK(first >= first_needed(groups_[g], slack) / page_tokens_ &&
              first <= first_needed(groups_[g], tables.n_tokens) / page_tokens_,
          "group {}: a table of {} tokens begins at page {}", g, tables.n_tokens, first);
    const BlockRange read = resume_blocks(groups_[g], tables.n_tokens);
    CHECK(static_cast<int64_t>(table.size()) >= read.last, "group {}: a table is too short", g);
    for (size_t i = 0; i < table.size(); ++i) {
      const bool live = static_cast<int32_t>(i) >= first;
      CHECK(live == (table[i] != kNoPage), "group {} page {} of a table", g, i);
      if (!live) continue;
      if (i < tables.nodes.size()) {
        CHECK(index_.entry(tables.nodes[i], c).page == table[i], "group {} block {}: two pages", g,
              i);
      } else {
        const PageOwner owner = {tables.id, static_cast<uint32_t>(i)};
        CHECK(arena_.owner(g, table[i]) == owner, "group {} page {}: owner", g, table[i]);
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
    for (size_t c = 0; c < token_groups_.size(); ++c) {
      const auto& table = tables->pages[token_groups_[c]];
      for (size_t i = 0; i < table.size(); ++i) {
        if (table[i] == kNoPage) continue;
        if (i < tables->nodes.size()) {
          ++refs[{tables->nodes[i], c}];
        } else {
          ++held[token_groups_[c]];
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
      if (c < token_groups_.size()) {
        ++held[token_groups_[c]];
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
      const bool by_token = kind_row(groups_[g].kind).by_token;
      const size_t own =
          by_token ? std::max<size_t>(tables->nodes.size(), tables->first_page[g]) : 0;
      if (own < tables->pages[g].size())
        pages[g] += static_cast<int64_t>(tables->pages[g].size() - own);
    }
  }
  for (NodeId node = 0; node < index_.node_limit(); ++node) {
    for (size_t c = 0; c < index_.n_columns(); ++c) {
      const uint32_t page = index_.entry(node, c).page;
      if (page == kNoPage) continue;
      if (c < token_groups_.size()) {
        const PageOwner owner = {kBlock | node, 0};
        CHECK(arena_.owner(token_groups_[c], page) == owner, "node {} column {}: owner", node, c);
        ++pages[token_groups_[c]];
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
