// The cache's private pages: reserve, crop, fork, release; and the closed form.

#include "kv/cache.h"

#include <algorithm>
#include <cstring>

#include "base/checked.h"

namespace ashlar {
namespace {

// Nodes without pages that are remembered: they tell an evicted prefix from one never seen.
constexpr size_t kMaxPageless = size_t{1} << 17;

std::vector<size_t> groups_by(std::span<const CacheGroup> groups, bool by_token) {
  std::vector<size_t> out;
  for (size_t g = 0; g < groups.size(); ++g) {
    if (kind_row(groups[g].kind).by_token == by_token) out.push_back(g);
  }
  return out;
}

// A node with a page has one of the smallest group, as a rule.
size_t most_nodes(const ArenaLayout& layout, std::span<const size_t> token_groups) {
  int64_t per_slab = 1;
  for (const size_t g : token_groups)
    per_slab = std::max<int64_t>(per_slab, layout.groups[g].pages_per_slab);
  return static_cast<size_t>(layout.n_slabs * per_slab);
}

}  // namespace

Result<Cache> Cache::create(std::vector<CacheGroup> groups, int64_t memory_bytes,
                            const CacheOptions& options) {
  for (const CacheGroup& group : groups) {
    if (group.page_tokens != groups[0].page_tokens) {
      return unsupported("cache groups with pages of {} and {} tokens: all share one page length",
                         groups[0].page_tokens, group.page_tokens);
    }
  }
  TRY(ArenaLayout layout, arena_layout(groups, memory_bytes));
  TRY(Buffer memory, Buffer::host(static_cast<size_t>(layout.arena_bytes()), "cache arena"));
  return Cache(std::move(groups), std::move(layout), std::move(memory), options);
}

Cache::Cache(std::vector<CacheGroup> groups, ArenaLayout layout, Buffer memory,
             const CacheOptions& options)
    : groups_(std::move(groups)),
      token_groups_(groups_by(groups_, true)),
      state_groups_(groups_by(groups_, false)),
      options_(options),
      page_tokens_(groups_[0].page_tokens),
      arena_(std::move(layout)),
      memory_(std::move(memory)),
      index_(token_groups_.size() + !state_groups_.empty(), !state_groups_.empty(), kMaxPageless,
             most_nodes(arena_.layout(), token_groups_)),
      held_(groups_.size(), 0),
      demand_(groups_.size(), 0) {
  if (options_.snapshot_interval == 0)
    options_.snapshot_interval = default_interval(groups_, page_tokens_);
}

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

void Cache::enrol(Tables* tables) {
  if (tables->id != Tables::kUnknown) return;
  const auto free = std::find(tables_.begin(), tables_.end(), nullptr);
  tables->id = static_cast<uint32_t>(free - tables_.begin());
  if (free == tables_.end()) {
    tables_.push_back(tables);
  } else {
    *free = tables;
  }
  tables->pages.resize(groups_.size());
  tables->first_page.resize(groups_.size(), 0);
  tables->root = index_.root({}, {});
}

uint32_t Cache::take_page(size_t group, PageOwner owner) {
  ++held_[group];
  return arena_.allocate(group, owner);
}

void Cache::drop_page(size_t group, uint32_t page) {
  --held_[group];
  free_page(group, page);
}

// The page may still be the source of a copy that waits, so its poison waits behind it.
void Cache::free_page(size_t group, uint32_t page) {
  if (poison_) {
    copies_.push_back({.group = group, .to = page});
    if (copies_.size() == 1) run_copies();
  }
  arena_.free(group, page);
}

// The page that holds the tokens before n_tokens is the index's, and the next token goes into it.
bool Cache::tail_is_shared(const Tables& tables) const {
  return static_cast<int64_t>(tables.nodes.size()) * page_tokens_ > tables.n_tokens;
}

bool Cache::borrows_tail(const Tables& tables, size_t group) const {
  const auto& pages = tables.pages[group];
  return tables.nodes.size() <= pages.size() && pages[tables.nodes.size() - 1] != kNoPage;
}

// Pages that reserve must add, into demand_; how many in all.
int64_t Cache::count_demand(const Tables& tables, int32_t end, int32_t slots) {
  int64_t total = 0;
  const bool copies_tail = end > tables.n_tokens && tail_is_shared(tables);
  for (size_t g = 0; g < groups_.size(); ++g) {
    const auto size = tables.pages.empty() ? 0 : static_cast<int64_t>(tables.pages[g].size());
    int64_t n = 0;
    if (!kind_row(groups_[g].kind).by_token) {
      n = groups_[g].n_layers() * (1 + slots) - size;
    } else if (end > size * page_tokens_) {
      n = ceil_div(end, page_tokens_) - size;
    }
    demand_[g] = std::max<int64_t>(0, n);
    if (copies_tail && kind_row(groups_[g].kind).by_token) demand_[g] += borrows_tail(tables, g);
    total += demand_[g];
  }
  return total;
}

bool Cache::reserve(Tables* tables, int32_t end, int32_t slots) {
  CHECK(slots <= options_.state_slots, "{} state slots of at most {}", slots, options_.state_slots);
  const bool own = end > tables->n_tokens && tail_is_shared(*tables);
  if (count_demand(*tables, end, slots) > 0) {
    bool copy = true;
    if (!make_room(demand_)) {
      if (!own || !holds_tail_alone(*tables)) return false;
      copy = false;
      for (const size_t g : token_groups_) demand_[g] -= borrows_tail(*tables, g);
      if (!make_room(demand_)) return false;
    }
    enrol(tables);
    if (own) own_tail(tables, copy);
    for (const size_t g : token_groups_) add_pages(tables, g, ceil_div(end, page_tokens_));
    for (const size_t g : state_groups_) add_pages(tables, g, groups_[g].n_layers() * (1 + slots));
    if (tables->resume != kNoNode) resume_state(tables);
  }
  for (const size_t g : state_groups_) {
    auto& pages = tables->pages[g];
    for (; static_cast<int64_t>(pages.size()) > groups_[g].n_layers() * (1 + slots);
         pages.pop_back()) {
      drop_page(g, pages.back());
    }
  }
  return true;
}

void Cache::add_pages(Tables* tables, size_t group, int64_t size) {
  auto& pages = tables->pages[group];
  while (static_cast<int64_t>(pages.size()) < size)
    pages.push_back(take_page(group, {tables->id, static_cast<uint32_t>(pages.size())}));
}

bool Cache::holds_tail_alone(const Tables& tables) const {
  for (size_t c = 0; c < token_groups_.size(); ++c) {
    if (borrows_tail(tables, token_groups_[c]) && index_.entry(tables.nodes.back(), c).refs > 1)
      return false;
  }
  return true;
}

// Copy before write; without room for a copy the only holder takes the page out of the index.
void Cache::own_tail(Tables* tables, bool copy) {
  const NodeId node = tables->nodes.back();
  const size_t block = tables->nodes.size() - 1;
  const PageOwner owner = {tables->id, static_cast<uint32_t>(block)};
  for (size_t c = 0; c < token_groups_.size(); ++c) {
    const size_t g = token_groups_[c];
    if (!borrows_tail(*tables, g)) continue;
    uint32_t& page = tables->pages[g][block];
    if (copy) {
      const uint32_t to = take_page(g, owner);
      copies_.push_back({g, page, to});
      page = to;
      let_go(node, c, Worth::useful);
    } else {
      let_go(node, c, Worth::useful);
      index_.take(node, c);
      arena_.set_owner(g, page, owner);
      ++held_[g];
    }
  }
  shorten_nodes(tables, block);
}

// Keeps the first n nodes; their entries are not touched.
void Cache::shorten_nodes(Tables* tables, size_t n) {
  if (n >= tables->nodes.size()) return;
  const NodeId last = tables->nodes.back();
  tables->nodes.resize(n);
  if (n > 0) index_.hold(tables->nodes.back());
  index_.let_go(last);
}

void Cache::crop(Tables* tables, int32_t n) {
  CHECK(n >= 0 && n <= tables->n_tokens, "crop to {} of {}", n, tables->n_tokens);
  CHECK(n == tables->n_tokens || state_groups_.empty(), "a state cannot be taken back");
  if (tables->pages.empty()) return;
  const auto n_blocks = static_cast<size_t>(ceil_div(n, page_tokens_));
  for (size_t c = 0; c < token_groups_.size(); ++c) {
    const size_t g = token_groups_[c];
    CHECK(tables->first_page[g] * page_tokens_ <= first_needed(groups_[g], n),
          "group {}: crop to {} needs tokens that have left", g, n);
    auto& pages = tables->pages[g];
    for (; pages.size() > n_blocks; pages.pop_back()) {
      drop_block(tables, c, pages.size() - 1, Worth::useful);
    }
    tables->first_page[g] = std::min(tables->first_page[g], static_cast<int32_t>(pages.size()));
  }
  shorten_nodes(tables, n_blocks);
  tables->n_tokens = n;
}

// A table lets a page go, the index's or its own; the entry stays for the caller to clear.
void Cache::drop_block(Tables* tables, size_t column, size_t block, Worth worth) {
  const size_t g = token_groups_[column];
  const uint32_t page = tables->pages[g][block];
  if (page == kNoPage) return;
  if (block < tables->nodes.size()) {
    let_go(tables->nodes[block], column, worth);
  } else {
    drop_page(g, page);
  }
}

bool Cache::fork(const Tables& from, Tables* to) {
  CHECK(to->pages.empty(), "fork into tables that are in use");
  if (from.pages.empty()) return true;
  const auto n_blocks = static_cast<size_t>(ceil_div(from.n_tokens, page_tokens_));
  std::fill(demand_.begin(), demand_.end(), 0);
  for (const size_t g : token_groups_) {
    const size_t shared = std::max<size_t>(from.nodes.size(), from.first_page[g]);
    demand_[g] = static_cast<int64_t>(n_blocks) - static_cast<int64_t>(std::min(shared, n_blocks));
  }
  for (const size_t g : state_groups_)
    demand_[g] = from.pages[g].empty() ? 0 : groups_[g].n_layers();
  if (!make_room(demand_)) return false;
  enrol(to);
  to->root = from.root;
  to->n_tokens = from.n_tokens;
  to->n_prompt = from.n_prompt;
  to->nodes = from.nodes;
  to->stops = from.stops;
  to->snapshot = from.snapshot;
  to->resume = from.resume;
  to->first_page = from.first_page;
  if (!to->nodes.empty()) index_.hold(to->nodes.back());
  if (to->resume != kNoNode) hold(to->resume, index_.snapshots());
  for (size_t c = 0; c < token_groups_.size(); ++c) {
    const size_t g = token_groups_[c];
    for (size_t block = 0; block < std::min(n_blocks, from.pages[g].size()); ++block) {
      const uint32_t page = from.pages[g][block];
      if (page == kNoPage || block < from.nodes.size()) {
        if (page != kNoPage) hold(from.nodes[block], c);
        to->pages[g].push_back(page);
      } else {
        to->pages[g].push_back(take_page(g, {to->id, static_cast<uint32_t>(block)}));
        copies_.push_back({g, page, to->pages[g].back()});
      }
    }
  }
  for (const size_t g : state_groups_) {
    add_pages(to, g, from.pages[g].empty() ? 0 : groups_[g].n_layers());
    for (size_t i = 0; i < to->pages[g].size(); ++i)
      copies_.push_back({g, from.pages[g][i], to->pages[g][i]});
  }
  return true;
}

// What a sequence holds is listed so that what is lost first costs least: its snapshot, then the
// windows, whose loss makes the rest useless anyway, then every token's pages from the last one
// down, because a page is worth nothing without those before it.
void Cache::release(Tables* tables) {
  if (tables->id == Tables::kUnknown) return;
  if (tables->resume != kNoNode) let_go(tables->resume, index_.snapshots(), Worth::useful);
  if (tables->snapshot != kNoNode) refresh_snapshot(tables->snapshot);
  for (const bool needs_all : {false, true}) {
    for (size_t c = 0; c < token_groups_.size(); ++c) {
      const size_t g = token_groups_[c];
      if (kind_row(groups_[g].kind).needs_all != needs_all) continue;
      const auto& pages = tables->pages[g];
      for (size_t block = pages.size(); block > 0; --block)
        drop_block(tables, c, block - 1, Worth::useful);
    }
  }
  for (const size_t g : state_groups_) {
    for (const uint32_t page : tables->pages[g]) drop_page(g, page);
  }
  shorten_nodes(tables, 0);
  tables_[tables->id] = nullptr;
  tables->id = Tables::kUnknown;
  tables->pages.clear();
  tables->first_page.clear();
  tables->stops.clear();
  tables->n_tokens = tables->n_prompt = 0;
  tables->resume = tables->snapshot = kNoNode;
}

std::vector<PageCopy> Cache::take_copies() { return std::exchange(copies_, {}); }

void Cache::run_copies() {
  for (const PageCopy& copy : copies_) {
    const auto n_bytes = static_cast<size_t>(arena_.layout().groups[copy.group].page_bytes);
    if (copy.from == kNoPage) {
      std::memset(page(copy.to), 0xFF, n_bytes);
    } else {
      std::memmove(page(copy.to), page(copy.from), n_bytes);
    }
  }
  copies_.clear();
}

}  // namespace ashlar
