#include "kv/cache.h"

#include <algorithm>
#include <cstring>

#include "base/checked.h"

namespace ashlar {
namespace {

// The first token the query at position `next` can see.
int32_t first_visible(const CacheGroup& group, int32_t next) {
  return group.window == 0 ? 0 : std::max(0, next - group.window + 1);
}

}  // namespace

Result<Cache> Cache::create(std::vector<CacheGroup> groups, int64_t memory_bytes) {
  TRY(ArenaLayout layout, arena_layout(groups, memory_bytes));
  TRY(Buffer memory, Buffer::host(static_cast<size_t>(layout.arena_bytes()), "cache arena"));
  return Cache(std::move(groups), std::move(layout), std::move(memory));
}

Cache::Cache(std::vector<CacheGroup> groups, ArenaLayout layout, Buffer memory)
    : groups_(std::move(groups)), arena_(std::move(layout)), memory_(std::move(memory)) {}

PagedView Cache::view(size_t group, int64_t index) const {
  const CacheGroup& g = groups_[group];
  const int64_t layer_offset = index * (g.k_bytes() + g.v_bytes());
  return {.base = memory_.data(),
          .k_offset_bytes = layer_offset,
          .v_offset_bytes = layer_offset + g.k_bytes(),
          .page_tokens = g.page_tokens,
          .kv_heads = g.kv_heads,
          .k_dim = g.k_dim,
          .v_dim = g.v_dim,
          .dtype = g.dtype};
}

bool Cache::reserve(Tables* tables, int32_t end) {
  tables->pages.resize(groups_.size());
  tables->first_page.resize(groups_.size(), 0);
  std::vector<int64_t> n_new(groups_.size());
  for (size_t g = 0; g < groups_.size(); ++g) {
    const int64_t n_pages = ceil_div(end, groups_[g].page_tokens);
    n_new[g] = std::max<int64_t>(0, n_pages - static_cast<int64_t>(tables->pages[g].size()));
  }
  if (!arena_.fits(n_new)) return false;
  for (size_t g = 0; g < groups_.size(); ++g) {
    for (int64_t i = 0; i < n_new[g]; ++i) tables->pages[g].push_back(arena_.allocate(g));
  }
  return true;
}

void Cache::commit(Tables* tables, int32_t end) {
  CHECK(end >= tables->n_tokens, "commit {} after {}", end, tables->n_tokens);
  for (size_t g = 0; g < groups_.size(); ++g) {
    CHECK(static_cast<int64_t>(tables->pages[g].size()) * groups_[g].page_tokens >= end,
          "group {}: commit {} beyond the reservation", g, end);
    int32_t& first = tables->first_page[g];
    const int32_t keep_from = first_visible(groups_[g], end) / groups_[g].page_tokens;
    for (; first < keep_from; ++first) {
      drop_page(g, std::exchange(tables->pages[g][static_cast<size_t>(first)], kNoPage));
    }
  }
  tables->n_tokens = end;
}

void Cache::release(Tables* tables) {
  for (size_t g = 0; g < tables->pages.size(); ++g) {
    for (const uint32_t page : tables->pages[g]) {
      if (page != kNoPage) drop_page(g, page);
    }
  }
  *tables = {};
}

void Cache::drop_page(size_t group, uint32_t page) {
  if (poison_) {
    std::memset(memory_.data() + page * kGranuleBytes, 0xFF,
                static_cast<size_t>(arena_.layout().groups[group].page_bytes));
  }
  arena_.free(group, page);
}

std::vector<int64_t> Cache::most_pages(int32_t n_tokens, int32_t step_tokens) const {
  std::vector<int64_t> n_pages;
  for (const CacheGroup& group : groups_) {
    n_pages.push_back(ceil_div(n_tokens, group.page_tokens));
    if (group.window == 0) continue;
    // At worst the window and the step straddle one page more than their length.
    const int64_t live = int64_t{group.window} - 1 + std::min(step_tokens, n_tokens);
    n_pages.back() = std::min(n_pages.back(), ceil_div(live, group.page_tokens) + 1);
  }
  return n_pages;
}

bool Cache::has_room(int32_t n_tokens, int32_t step_tokens) const {
  return arena_.fits(most_pages(n_tokens, step_tokens));
}

bool Cache::could_ever_fit(int32_t n_tokens, int32_t step_tokens) const {
  const std::vector<int64_t> n_pages = most_pages(n_tokens, step_tokens);
  int64_t slabs = 0;
  for (size_t g = 0; g < groups_.size(); ++g) {
    slabs += ceil_div(n_pages[g], arena_.layout().groups[g].pages_per_slab);
  }
  return slabs <= arena_.layout().n_slabs;
}

int32_t Cache::longest_sequence(int32_t step_tokens) const {
  int32_t low = 0, high = 1 << 30;  // low fits, high does not (or is beyond any model)
  while (high - low > 1) {
    const int32_t middle = low + (high - low) / 2;
    (could_ever_fit(middle, step_tokens) ? low : high) = middle;
  }
  return low;
}

void Cache::audit(std::span<const Tables* const> all_tables) const {
  arena_.audit();
  for (size_t g = 0; g < groups_.size(); ++g) {
    std::vector<uint32_t> pages;
    for (const Tables* tables : all_tables) {
      if (tables->pages.empty()) continue;
      const auto& table = tables->pages[g];
      for (size_t i = 0; i < table.size(); ++i) {
        const bool live = static_cast<int32_t>(i) >= tables->first_page[g];
        CHECK(live == (table[i] != kNoPage), "group {} page {} of a table", g, i);
        if (live) pages.push_back(table[i]);
      }
    }
    std::sort(pages.begin(), pages.end());
    CHECK(std::adjacent_find(pages.begin(), pages.end()) == pages.end(),
          "group {}: a page in two tables", g);
    CHECK(static_cast<int64_t>(pages.size()) == arena_.live_pages(g),
          "group {}: {} pages in tables, {} live", g, pages.size(), arena_.live_pages(g));
  }
}

}  // namespace ashlar
