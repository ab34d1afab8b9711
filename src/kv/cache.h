#pragma once

// Cache: the pages of every sequence and of every prefix worth keeping, over one arena.
//
// Life of a page: match (pages of a known prefix are held) -> reserve (all or nothing, before any
// write) -> the step writes -> commit (full pages become shareable, window pages that no later
// query can see leave the table) -> release. A page that no table holds stays cached until room is
// needed. Which pages a sequence has is in its Tables.
//
// Groups may cut tokens into pages of different lengths. Prefixes are known by blocks of
// block_tokens(), which every group's pages divide: a block has several pages of a group with short
// ones, and becomes shareable when it is full.
//
// Some operations ask for page copies. They are data until take_copies(): the caller executes them,
// in order, before the next step writes; run_copies() does so for host memory.
//
// Goals: never a partial reservation; never a write into a shared page; room for pages is exactly
// the closed form of the pages that are held, whatever is cached and wherever pages lie. Not here:
// what is in a page. Engine thread only.

#include <cstdint>
#include <span>
#include <vector>

#include "kv/arena.h"
#include "kv/index.h"
#include "kv/kinds.h"
#include "kv/layout.h"
#include "kv/stats.h"
#include "kv/tables.h"
#include "spec/groups.h"
#include "tensor/buffer.h"
#include "tensor/paged.h"

namespace ashlar {

struct CacheOptions {
  int32_t slack_tokens = 0;  // crop may take back so many; windows keep as many more
  // reserve is asked for so many tokens beyond those that the step computes, and may be refused.
  int32_t lookahead_tokens = 0;
  int32_t state_slots = 0;  // the most that reserve is asked for
  // A long prompt's state is kept every so many tokens; 0: as often as the state weighs no more
  // than the tokens between.
  int32_t snapshot_interval = 0;
  bool snapshot_decode = true;  // keep the latest page boundary's state while generating
};

class Cache {
 public:
  // Reserves the layout's memory; it is committed page by page as it is first written. unsupported
  // when the groups' page lengths have no common multiple of few pages.
  static Result<Cache> create(CacheLayout layout, const CacheOptions& options = {});
  // In an arena.
  static Result<Cache> create(std::vector<CacheGroup> groups, int64_t memory_bytes,
                              const CacheOptions& options = {});

  const std::vector<CacheGroup>& groups() const { return groups_; }
  const Arena& arena() const { return arena_; }
  const CacheOptions& options() const { return options_; }
  // The grain of reuse: the least common multiple of the groups' page_tokens.
  int32_t block_tokens() const { return block_tokens_; }

  // K and V of the `index`-th layer of a token group, for kernels; and a page's bytes.
  PagedView view(size_t group, int64_t index) const;
  std::byte* page(uint32_t granule) const { return memory_.data() + granule * kGranuleBytes; }

  // Finds the longest resumable prefix, holds its pages and returns its length, which is n_tokens
  // then: less than the prompt's, a multiple of block_tokens() unless only the last token is left.
  // REQUIRES empty tables.
  int32_t match(Tables* tables, const Prompt& prompt);
  // Gives `tables` pages for tokens [n_tokens, end), private ones where it will write, and state
  // pages with `slots` more of them. False, and nothing changed, when they do not fit beside what
  // others hold.
  bool reserve(Tables* tables, int32_t end, int32_t slots = 0);
  // Says that tokens [0, end) are written, those after `end` forgotten. With the sequence's tokens
  // its full blocks become shareable; without, they stay private. With slots, slot
  // end - n_tokens becomes slot 0. Snapshots are taken at next_stop() and, while generating, at
  // block boundaries. REQUIRES reserve(tables, >= end).
  void commit(Tables* tables, int32_t end, std::span<const int32_t> tokens = {});
  // Forgets tokens [n, n_tokens) and what is reserved beyond. REQUIRES n_tokens - n within
  // slack_tokens; 0 where there is a state (commit what was accepted instead).
  void crop(Tables* tables, int32_t n);
  // Makes `to`, empty, a second sequence with the tokens of `from`. False, and nothing changed,
  // when its private pages do not fit.
  bool fork(const Tables& from, Tables* to);
  // Lets every page go: shareable ones stay cached. The tables are empty after.
  void release(Tables* tables);

  // The next boundary where a step should end so that the state there can be kept; INT32_MAX when
  // there is none.
  int32_t next_stop(const Tables& tables) const;
  // Keeps the state at n_tokens. REQUIRES a block boundary, committed with tokens. False when there
  // is no room, or no state to keep.
  bool snapshot(Tables* tables);

  std::vector<PageCopy> take_copies();
  void run_copies();

  // Whether a new sequence of n_tokens, computed in steps of at most step_tokens, fits beside what
  // is held; the same for one that has matched; whether it fits in an empty arena.
  bool has_room(int32_t n_tokens, int32_t step_tokens) const;
  bool has_room(const Tables& tables, int32_t n_tokens, int32_t step_tokens) const;
  bool could_ever_fit(int32_t n_tokens, int32_t step_tokens) const;
  // The longest such sequence.
  int32_t longest_sequence(int32_t step_tokens) const;

  // Pages that tables hold, and pages that only the index holds.
  int64_t held_pages(size_t group) const { return held_[group]; }
  int64_t cached_pages(size_t group) const { return arena_.live_pages(group) - held_[group]; }
  // Bytes of the arena in pages of neither kind, slab remainders included.
  int64_t unused_bytes() const;
  const CacheStats& stats() const { return stats_; }
  const PrefixIndex& index() const { return index_; }
  // The pages of the node's snapshot, group by group, layer by layer. REQUIRES that it has one.
  std::span<const uint32_t> snapshot_pages(NodeId node) const {
    return snapshots_[index_.entry(node, index_.snapshots()).page];
  }

  // Tests only. Fills freed pages with NaN bytes, so that a kernel that reads what it must not
  // gives NaN. Refuses the n-th demand for pages from now, as if none were left.
  void poison_freed_pages(bool on) { poison_ = on; }
  void refuse_demand(int64_t n) { refuse_in_ = n; }
  bool refuses_demand() const { return refuse_in_ > 0; }

  // Aborts unless the arena and the index agree with themselves, with each other and with these
  // tables, the only ones there are.
  void audit(std::span<const Tables* const> all_tables) const;

 private:
  // Who owns a page, in PageOwner::who: an id and one of these bits; index: see each.
  enum Owner : uint32_t {
    kTable = 0,            // the table's id; position in pages[group]
    kBlock = 1u << 30,     // a node; which of the group's pages in its block
    kSnapshot = 2u << 30,  // a snapshot; position in its pages
    kOwnerId = (1u << 30) - 1,
  };
  using Counts = std::vector<int64_t>;  // pages, by group

  Cache(CacheLayout layout, int32_t block_tokens, Buffer memory, const CacheOptions& options);

  static int32_t default_interval(std::span<const CacheGroup> groups, const ArenaLayout& layout,
                                  int32_t block_tokens);
  StepShape shape(int32_t step_tokens) const;

  // The column of the index for the pages of a token group at this position in their blocks, and
  // the node of a page of a table. REQUIRES i < shared_pages(tables, group).
  size_t column_of(size_t group, int64_t i) const {
    return first_column_[group] + static_cast<size_t>(i % pages_per_block_[group]);
  }
  NodeId node_of(const Tables& tables, size_t group, int64_t i) const {
    return tables.nodes[static_cast<size_t>(i / pages_per_block_[group])];
  }
  // Pages of the blocks that are the index's; a table may end within them.
  int64_t shared_pages(const Tables& tables, size_t group) const {
    return static_cast<int64_t>(tables.nodes.size()) * pages_per_block_[group];
  }

  // cache.cc: private pages
  void enrol(Tables* tables);
  uint32_t take_page(size_t group, PageOwner owner);
  void drop_page(size_t group, uint32_t page);
  void free_page(size_t group, uint32_t page);
  void add_pages(Tables* tables, size_t group, int64_t size);
  void let_page_go(Tables* tables, size_t group, int64_t i, Worth worth);
  void release_block(Tables* tables, size_t group, int64_t block, int32_t junction);
  int64_t count_demand(const Tables& tables, int32_t end, int32_t slots, bool copy_all);
  bool tail_is_shared(const Tables& tables) const;
  BlockRange tail_pages(const Tables& tables, size_t group) const;
  bool others_hold(const Tables& tables, size_t group, int64_t i) const;
  void own_tail(Tables* tables, bool copy_all);
  void shorten_nodes(Tables* tables, size_t n);

  // match.cc
  struct Found;
  Found look_up(Tables* tables, const Prompt& prompt);
  void skip_unread(Tables* tables, const Prompt& prompt, Found* found);
  void take_prefix(Tables* tables, int32_t boundary);
  void plan_stops(Tables* tables, const Prompt& prompt, const Found& found);
  void count_misses(const Prompt& prompt, const Found& found);

  // commit.cc
  void publish(Tables* tables, int32_t end, std::span<const int32_t> tokens);
  NodeId append_node(Tables* tables, std::span<const int32_t> block);
  void give_page(Tables* tables, size_t group, int64_t i, NodeId node);
  void leave_behind(Tables* tables, int32_t end);
  Worth worth_behind(const Tables& tables, size_t group, int32_t i) const;

  // snapshot.cc
  bool has_slots(const Tables& tables) const;
  void keep_states(Tables* tables, int32_t end);
  bool take_snapshot(Tables* tables, int32_t boundary, int32_t slot);
  void copy_states(const Tables& tables, int32_t slot, NodeId node);
  void refresh_snapshot(NodeId node);
  bool superseded(NodeId node) const;
  void resume_state(Tables* tables);
  void rotate_states(Tables* tables, int32_t end);

  // room.cc
  bool feasible(std::span<const int64_t> demand) const;
  bool make_room(std::span<const int64_t> demand);
  void evict_one();
  void evict(NodeId node, size_t column);
  void drain(size_t group);
  void tell_owner(size_t group, const MovedPage& moved);
  void hold(NodeId node, size_t column);
  void let_go(NodeId node, size_t column, Worth worth);
  void count_held(size_t column, int64_t by);

  // audit.cc
  void audit_tables(const Tables& tables) const;
  void audit_references(std::span<const Tables* const> all_tables) const;
  void audit_owners() const;

  std::vector<CacheGroup> groups_;
  std::vector<size_t> token_groups_;
  std::vector<size_t> state_groups_;
  CacheOptions options_;
  int32_t block_tokens_;
  std::vector<int32_t> pages_per_block_;  // by group
  std::vector<size_t> first_column_;      // by group; the index's columns of its pages in a block
  std::vector<size_t> column_groups_;     // by column
  Arena arena_;
  Buffer memory_;
  PrefixIndex index_;
  std::vector<Tables*> tables_;  // by id; null where free
  std::vector<std::vector<uint32_t>>
      snapshots_;  // by number: pages, group by group, layer by layer
  std::vector<uint32_t> free_snapshots_;
  Counts held_;
  Counts demand_;  // scratch
  std::vector<PageCopy> copies_;
  CacheStats stats_;
  bool poison_ = false;
  int64_t refuse_in_ = 0;
};

}  // namespace ashlar
