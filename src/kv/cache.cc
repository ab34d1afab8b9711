// The cache's private pages: reserve, crop, fork, release; and the closed form.

#include "kv/cache.h"

#include <algorithm>
#include <climits>
#include <cstring>
#include <numeric>

#include "base/checked.h"
#include "kv/plan.h"

namespace ashlar {
namespace {

// Nodes without pages that are remembered: they tell an evicted prefix from one never seen.
constexpr size_t kMaxPageless = size_t{1} << 17;
// Pages of all token groups in one block: a node has an entry for each.
constexpr size_t kMaxColumns = 4096;

std::vector<size_t> groups_by(std::span<const CacheGroup> groups, bool by_token) {
  std::vector<size_t> out;
  for (size_t g = 0; g < groups.size(); ++g) {
    if (kind_row(groups[g].kind).by_token == by_token) out.push_back(g);
  }
  return out;
}

// A node with a page has one of the smallest group, as a rule.
size_t most_nodes(std::span<const CacheGroup> groups, const ArenaLayout& layout,
                  int32_t block_tokens) {
  int64_t most = 0;
  for (size_t g = 0; g < groups.size(); ++g) {
    if (!groups[g].has_tokens()) continue;
    const int64_t n_pages = layout.n_slabs * layout.groups[g].pages_per_slab;
    most = std::max(most, n_pages / (block_tokens / groups[g].page_tokens));
  }
  return static_cast<size_t>(most);
}

size_t count_columns(std::span<const CacheGroup> groups, int32_t block_tokens) {
  int64_t n = 0;
  for (const CacheGroup& group : groups)
    n += group.has_tokens() ? block_tokens / group.page_tokens : 0;
  return static_cast<size_t>(n);
}

// The shortest block that whole pages of every group fill.
Result<int32_t> common_block(std::span<const CacheGroup> groups) {
  int64_t tokens = 1;
  for (const CacheGroup& group : groups) {
    tokens = std::lcm(tokens, int64_t{group.page_tokens});
    if (tokens > INT32_MAX) break;
  }
  if (tokens <= INT32_MAX && count_columns(groups, static_cast<int32_t>(tokens)) <= kMaxColumns) {
    return static_cast<int32_t>(tokens);
  }
  return unsupported(
      "cache groups with pages of {} to {} tokens: a block of whole pages of each "
      "has more than {} tokens or {} pages; choose page lengths that divide another",
      groups.front().page_tokens, groups.back().page_tokens, INT32_MAX, kMaxColumns);
}

}  // namespace

Result<Cache> Cache::create(std::vector<CacheGroup> groups, int64_t memory_bytes,
                            const CacheOptions& options) {
  TRY(CacheLayout layout, arena_cache_layout(std::move(groups), memory_bytes));
  return create(std::move(layout), options);
}

Result<Cache> Cache::create(CacheLayout layout, const CacheOptions& options) {
  CHECK(!layout.groups.empty() && layout.groups.size() == layout.arena.groups.size());
  TRY(const int32_t block_tokens, common_block(layout.groups));
  TRY(Buffer memory, Buffer::host(static_cast<size_t>(layout.arena.arena_bytes()), "cache arena"));
  return Cache(std::move(layout), block_tokens, std::move(memory), options);
}

Cache::Cache(CacheLayout layout, int32_t block_tokens, Buffer memory, const CacheOptions& options)
    : groups_(std::move(layout.groups)),
      token_groups_(groups_by(groups_, true)),
      state_groups_(groups_by(groups_, false)),
      options_(options),
      block_tokens_(block_tokens),
      arena_(std::move(layout.arena)),
      memory_(std::move(memory)),
      index_(count_columns(groups_, block_tokens) + !state_groups_.empty(), !state_groups_.empty(),
             kMaxPageless, most_nodes(groups_, arena_.layout(), block_tokens)),
      held_(groups_.size(), 0),
      demand_(groups_.size(), 0) {
  for (size_t g = 0; g < groups_.size(); ++g) {
    pages_per_block_.push_back(block_tokens / groups_[g].page_tokens);
    first_column_.push_back(column_groups_.size());
    if (!groups_[g].has_tokens()) continue;
    column_groups_.insert(column_groups_.end(), static_cast<size_t>(pages_per_block_[g]), g);
  }
  if (options_.snapshot_interval == 0)
    options_.snapshot_interval = default_interval(groups_, arena_.layout(), block_tokens_);
}

PagedView Cache::view(size_t group, int64_t index) const {
  const CacheGroup& g = groups_[group].row(index);
  const int64_t layer_offset =
      arena_.layout().groups[group].layer_offsets[static_cast<size_t>(index)];
  return {.base = memory_.data(),
          .k_offset_bytes = layer_offset,
          .v_offset_bytes = layer_offset + g.k_bytes(),
          .page_tokens = g.page_tokens,
          .kv_heads = g.kv_heads,
          .k_dim = g.k_dim,
          .v_dim = g.v_dim,
          .dtype = g.dtype,
          .scales_offset_bytes =
              g.token_scales ? layer_offset + g.k_bytes() + g.v_bytes() : int64_t{-1}};
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

// The block that holds the tokens before n_tokens is the index's, and the next token goes into it.
bool Cache::tail_is_shared(const Tables& tables) const {
  return static_cast<int64_t>(tables.nodes.size()) * block_tokens_ > tables.n_tokens;
}

// The pages of the last block that is the index's, as far as the table has them.
BlockRange Cache::tail_pages(const Tables& tables, size_t group) const {
  const int64_t end = shared_pages(tables, group);
  return {static_cast<int32_t>(
              std::max<int64_t>(end - pages_per_block_[group], tables.first_page[group])),
          static_cast<int32_t>(std::min<int64_t>(end, std::ssize(tables.pages[group])))};
}

bool Cache::others_hold(const Tables& tables, size_t group, int64_t i) const {
  return index_.entry(node_of(tables, group, i), column_of(group, i)).refs > 1;
}

// Pages that reserve must add, into demand_; how many in all. A shared tail is copied, or with
// !copy_all only what others hold of it.
int64_t Cache::count_demand(const Tables& tables, int32_t end, int32_t slots, bool copy_all) {
  int64_t total = 0;
  const bool own = end > tables.n_tokens && tail_is_shared(tables);
  for (size_t g = 0; g < groups_.size(); ++g) {
    const CacheGroup& group = groups_[g];
    const int64_t size = tables.pages.empty() ? 0 : std::ssize(tables.pages[g]);
    if (!group.has_tokens()) {
      demand_[g] = std::max<int64_t>(0, group.n_layers() * (1 + slots) - size);
    } else {
      demand_[g] = end > size * group.page_tokens ? ceil_div(end, group.page_tokens) - size : 0;
      const BlockRange tail = own ? tail_pages(tables, g) : BlockRange();
      for (int32_t i = tail.first; i < tail.last; ++i)
        demand_[g] += copy_all || others_hold(tables, g, i);
    }
    total += demand_[g];
  }
  return total;
}

bool Cache::reserve(Tables* tables, int32_t end, int32_t slots) {
  CHECK(slots <= options_.state_slots, "{} state slots of at most {}", slots, options_.state_slots);
  const bool own = end > tables->n_tokens && tail_is_shared(*tables);
  if (const int64_t n_pages = count_demand(*tables, end, slots, true); n_pages > 0) {
    bool copy_all = true;
    if (!make_room(demand_)) {
      copy_all = false;
      if (!own || count_demand(*tables, end, slots, copy_all) == n_pages) return false;
      if (!make_room(demand_)) return false;
    }
    enrol(tables);
    if (own) own_tail(tables, copy_all);
    for (const size_t g : token_groups_)
      add_pages(tables, g, ceil_div(end, groups_[g].page_tokens));
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

// Copy before write; without room for copies the only holder takes a page out of the index.
void Cache::own_tail(Tables* tables, bool copy_all) {
  const NodeId node = tables->nodes.back();
  for (const size_t g : token_groups_) {
    const BlockRange tail = tail_pages(*tables, g);
    for (int32_t i = tail.first; i < tail.last; ++i) {
      const PageOwner owner = {tables->id, static_cast<uint32_t>(i)};
      const size_t column = column_of(g, i);
      uint32_t& page = tables->pages[g][static_cast<size_t>(i)];
      if (copy_all || others_hold(*tables, g, i)) {
        const uint32_t to = take_page(g, owner);
        copies_.push_back({g, page, to});
        page = to;
        let_go(node, column, Worth::useful);
      } else {
        let_go(node, column, Worth::useful);
        index_.take(node, column);
        arena_.set_owner(g, page, owner);
        ++held_[g];
      }
    }
  }
  shorten_nodes(tables, tables->nodes.size() - 1);
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
  for (const size_t g : token_groups_) {
    const int64_t page_tokens = groups_[g].page_tokens;
    CHECK(tables->first_page[g] * page_tokens <= first_needed(groups_[g], n),
          "group {}: crop to {} needs tokens that have left", g, n);
    auto& pages = tables->pages[g];
    for (; std::ssize(pages) > ceil_div(n, page_tokens); pages.pop_back()) {
      let_page_go(tables, g, std::ssize(pages) - 1, Worth::useful);
    }
    tables->first_page[g] = std::min(tables->first_page[g], static_cast<int32_t>(pages.size()));
  }
  shorten_nodes(tables, static_cast<size_t>(ceil_div(n, block_tokens_)));
  tables->n_tokens = n;
}

// The index's page or its own; the table's entry stays for the caller to clear.
void Cache::let_page_go(Tables* tables, size_t group, int64_t i, Worth worth) {
  const uint32_t page = tables->pages[group][static_cast<size_t>(i)];
  if (page == kNoPage) return;
  if (i < shared_pages(*tables, group)) {
    let_go(node_of(*tables, group, i), column_of(group, i), worth);
  } else {
    drop_page(group, page);
  }
}

bool Cache::fork(const Tables& from, Tables* to) {
  CHECK(to->pages.empty(), "fork into tables that are in use");
  if (from.pages.empty()) return true;
  const auto n_pages = [&](size_t g) { return ceil_div(from.n_tokens, groups_[g].page_tokens); };
  std::fill(demand_.begin(), demand_.end(), 0);
  for (const size_t g : token_groups_) {
    const int64_t shared = std::max<int64_t>(shared_pages(from, g), from.first_page[g]);
    demand_[g] = std::max<int64_t>(0, n_pages(g) - shared);
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
  for (const size_t g : token_groups_) {
    for (int64_t i = 0; i < std::min<int64_t>(n_pages(g), std::ssize(from.pages[g])); ++i) {
      const uint32_t page = from.pages[g][static_cast<size_t>(i)];
      if (page == kNoPage || i < shared_pages(from, g)) {
        if (page != kNoPage) hold(node_of(from, g, i), column_of(g, i));
        to->pages[g].push_back(page);
      } else {
        to->pages[g].push_back(take_page(g, {to->id, static_cast<uint32_t>(i)}));
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

// What a sequence holds is listed so that what is lost first costs least: its snapshot, then its
// blocks from the last one down, because a page is worth nothing without those before it. Where
// texts branch, what a resume reads counts as used too, though the sequence has gone on.
void Cache::release(Tables* tables) {
  if (tables->id == Tables::kUnknown) return;
  if (tables->resume != kNoNode) let_go(tables->resume, index_.snapshots(), Worth::useful);
  if (tables->snapshot != kNoNode) refresh_snapshot(tables->snapshot);
  int64_t n_blocks = 0;
  for (const size_t g : token_groups_)
    n_blocks = std::max(n_blocks, ceil_div(std::ssize(tables->pages[g]), pages_per_block_[g]));
  int32_t junction = INT32_MAX;  // the next one after the block's first token
  for (int64_t block = n_blocks - 1; block >= 0; --block) {
    const bool shared = block < std::ssize(tables->nodes);
    const NodeId node = shared ? tables->nodes[static_cast<size_t>(block)] : kNoNode;
    if (shared && index_.node(node).n_children > 1) {
      junction = static_cast<int32_t>(block + 1) * block_tokens_;
      if (!state_groups_.empty() && !superseded(node)) refresh_snapshot(node);
    }
    for (const size_t g : token_groups_) release_block(tables, g, block, junction);
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

// REQUIRES that blocks are released from the last down. junction: where the text is next known to
// branch after the block's first token.
void Cache::release_block(Tables* tables, size_t group, int64_t block, int32_t junction) {
  const int64_t n = pages_per_block_[group];
  const int64_t end = std::min<int64_t>((block + 1) * n, std::ssize(tables->pages[group]));
  for (int64_t i = end - 1; i >= block * n; --i) {
    if (tables->pages[group][static_cast<size_t>(i)] != kNoPage) {
      let_page_go(tables, group, i, Worth::useful);
    } else if (junction < INT32_MAX &&
               first_needed(groups_[group], junction) < (i + 1) * groups_[group].page_tokens) {
      const NodeId node = node_of(*tables, group, i);
      const size_t column = column_of(group, i);
      const Entry& entry = index_.entry(node, column);
      if (entry.page != kNoPage && entry.refs == 0) index_.relist(node, column, Worth::useful);
    }
  }
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
