#pragma once

// Cache: the pages of every sequence, over one arena.
//
// Life of a page: reserve (all or nothing, before any write) -> the step writes -> commit (window
// pages that no later query can see leave) -> release. Which pages a sequence has is in its Tables:
// per group, the granule offset of the page of tokens [i * page_tokens, ...).
//
// Goals: never a partial reservation; bytes by group equal the closed form at every moment. Not
// here: what is in a page. Engine thread only.

#include <cstdint>
#include <span>
#include <vector>

#include "kv/arena.h"
#include "spec/groups.h"
#include "tensor/buffer.h"
#include "tensor/paged.h"

namespace ashlar {

// A table entry without a page: behind the window, or never reserved.
constexpr uint32_t kNoPage = 0xFFFFFFFFu;

// One sequence's pages. Owned by the sequence, changed by Cache alone.
struct Tables {
  std::vector<std::vector<uint32_t>> pages;  // [group][token / page_tokens]
  std::vector<int32_t> first_page;           // [group]: entries before it are kNoPage
  int32_t n_tokens = 0;                      // committed
};

class Cache {
 public:
  // Reserves the arena's memory; it is committed page by page as it is first written.
  static Result<Cache> create(std::vector<CacheGroup> groups, int64_t memory_bytes);

  const std::vector<CacheGroup>& groups() const { return groups_; }
  const Arena& arena() const { return arena_; }

  // K and V of the `index`-th layer of a group, for kernels.
  PagedView view(size_t group, int64_t index) const;

  // Gives `tables` pages for tokens [n_tokens, end). False, and nothing changed, when they do not
  // fit.
  bool reserve(Tables* tables, int32_t end);
  // Says that tokens [0, end) are written. Frees pages behind the windows of the query at `end`.
  // REQUIRES reserve(tables, >= end).
  void commit(Tables* tables, int32_t end);
  // Frees every page; the tables are empty after.
  void release(Tables* tables);

  // Whether a new sequence of n_tokens, computed in steps of at most step_tokens, fits beside what
  // is live; and whether it fits in an empty arena.
  bool has_room(int32_t n_tokens, int32_t step_tokens) const;
  bool could_ever_fit(int32_t n_tokens, int32_t step_tokens) const;
  // The longest such sequence.
  int32_t longest_sequence(int32_t step_tokens) const;

  // Fills freed pages with NaN bytes, so that a kernel that reads what it must not gives NaN. Tests
  // only.
  void poison_freed_pages(bool on) { poison_ = on; }

  // Aborts unless the arena agrees with itself and with these tables, the only ones there are.
  void audit(std::span<const Tables* const> all_tables) const;

 private:
  Cache(std::vector<CacheGroup> groups, ArenaLayout layout, Buffer memory);
  // The most pages of each group that such a sequence holds at once.
  std::vector<int64_t> most_pages(int32_t n_tokens, int32_t step_tokens) const;
  void drop_page(size_t group, uint32_t page);

  std::vector<CacheGroup> groups_;
  Arena arena_;
  Buffer memory_;
  bool poison_ = false;
};

}  // namespace ashlar
