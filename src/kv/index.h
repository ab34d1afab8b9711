#pragma once

// PrefixIndex: which tokens the cache has seen, and where their pages are.
//
// A node stands for one block of tokens with everything before it: its key is the SHA-256 of the
// parent's key and the block's tokens, and the first block's parent is a root that hashes salt and
// adapter, so two salts never share. A node has one entry per column: a column is a page of a token
// group in a block (each has one unless page lengths differ), or the snapshots. An entry is empty,
// held by tables (refs) or listed for eviction, in order of worth and then of age.
//
// A node that lost its pages stays a while as a ghost: it knows that the prefix was seen. Bytes,
// pages and counts per group are the cache's. Engine thread only.

#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/sha256.h"

namespace ashlar {

// A table or entry without a page: behind the window, never reserved, evicted.
constexpr uint32_t kNoPage = 0xFFFFFFFFu;

using NodeId = uint32_t;
constexpr NodeId kNoNode = 0xFFFFFFFFu;

// What goes first when room is needed.
enum class Worth : uint8_t {
  dead,   // no boundary can be resumed with it: its state is gone, or will not be kept
  cheap,  // one boundary nobody is expected at: window pages in the middle of a text
  useful,
};
constexpr int kWorths = 3;

struct Entry {
  uint32_t page = kNoPage;          // a granule; in the snapshots' column the number of a snapshot
  uint32_t refs : 30 = 0;           // tables that hold it; not listed while any does
  Worth worth : 2 = Worth::useful;  // meaningful while listed
  uint32_t previous = kNoNode;
  uint32_t next = kNoNode;
};
static_assert(sizeof(Entry) == 16);

// One cache line: a prompt of 128k tokens walks 8192 of them.
struct alignas(64) Node {
  Digest key = {};
  NodeId parent = kNoNode;
  int32_t block = 0;  // tokens [block * n, (block + 1) * n), n = block_tokens()
  int32_t n_children = 0;
  int32_t n_holds = 0;        // tables whose last block it is
  int32_t n_covered = 0;      // children with a snapshot at or below them, and its own
  NodeId previous = kNoNode;  // among ghosts
  NodeId next = kNoNode;
  uint16_t n_pages = 0;  // entries that are not empty
  bool ghost = false;
  bool used = false;
};
static_assert(sizeof(Node) == 64);

class PrefixIndex {
 public:
  // The last of n_columns is the snapshots' when with_snapshots. At most max_pageless nodes without
  // a page are remembered, but for those above a node with one. Expects n_expected nodes with one.
  PrefixIndex(size_t n_columns, bool with_snapshots, size_t max_pageless, size_t n_expected = 0);

  // The parent of first blocks.
  Digest root(std::string_view salt, std::string_view adapter);
  Digest next_key(const Digest& parent, std::span<const int32_t> block);

  // kNoNode when there is none. A text's nodes often follow one another: `guess` is tried first.
  NodeId find(const Digest& key, NodeId guess = kNoNode) const;
  // REQUIRES that find(key) is kNoNode. `plain` is the key a first block has without salt.
  NodeId insert(const Digest& key, NodeId parent, const Digest* plain = nullptr);
  // Whether some first block has these tokens, under any salt.
  bool seen_first(const Digest& plain) const { return first_blocks_.count(key_of(plain)) > 0; }

  const Node& node(NodeId id) const { return nodes_[id]; }
  const Entry& entry(NodeId id, size_t column) const { return entries_[id * n_columns_ + column]; }
  size_t n_columns() const { return n_columns_; }
  // The token groups' columns come first, group by group, then the snapshots' if there is one.
  size_t n_token_columns() const { return n_columns_ - with_snapshots_; }
  size_t snapshots() const { return n_token_columns(); }

  // Keeps a node while a table ends in it; its ancestors stay with it.
  void hold(NodeId id);
  void let_go(NodeId id);

  // An empty entry takes a page, held by nobody and not listed; and the reverse.
  void put(NodeId id, size_t column, uint32_t page);
  uint32_t take(NodeId id, size_t column);
  void set_page(NodeId id, size_t column, uint32_t page);  // it moved

  // True when the entry was not held before, or is not any more. let_go lists it as the youngest.
  bool hold(NodeId id, size_t column);
  bool let_go(NodeId id, size_t column, Worth worth);
  void relist(NodeId id, size_t column, Worth worth);  // REQUIRES a listed entry
  void list(NodeId id, size_t column, Worth worth);    // REQUIRES a page nobody holds, not listed

  // Whether a snapshot lies at or below the node; true for all when there are none by design.
  bool covered(NodeId id) const { return !with_snapshots_ || nodes_[id].n_covered > 0; }

  // The entry to evict next: oldest of the least worth. False when nothing is listed.
  bool victim(NodeId* id, size_t* column) const;

  size_t n_nodes() const { return n_nodes_; }
  size_t n_pageless() const { return n_pageless_; }
  size_t node_limit() const { return nodes_.size(); }  // ids are below it

  // Aborts unless links, counts and lists agree.
  void audit() const;

 private:
  // A place of the hash table; `tag` spares most looks at nodes.
  struct Place {
    uint32_t tag = 0;
    NodeId id = kNoNode;
  };
  struct List {
    uint32_t oldest = kNoNode;
    uint32_t youngest = kNoNode;
  };

  static uint64_t key_of(const Digest& digest) {
    uint64_t bits;
    std::memcpy(&bits, digest.data(), sizeof bits);
    return bits;
  }
  size_t place_of(const Digest& key) const;
  void grow();
  void erase_key(const Digest& key);
  void unlist(uint32_t entry);
  void cover(NodeId id);
  void uncover(NodeId id);
  void relist_node(NodeId id, Worth worth);
  void update_ghost(NodeId id);
  void forget_ghosts();
  void forget_oldest_ghost();

  size_t n_columns_;
  bool with_snapshots_;
  size_t max_pageless_;
  Sha256 sha256_;
  std::vector<Node> nodes_;
  std::vector<Entry> entries_;  // [node][column]
  std::vector<NodeId> free_nodes_;
  std::vector<Place> places_;  // open addressing by key, a power of two
  size_t n_nodes_ = 0;
  size_t n_ghosts_ = 0;  // leaves of the pageless ones
  size_t n_pageless_ = 0;
  List lists_[kWorths];
  NodeId oldest_ghost_ = kNoNode;
  NodeId youngest_ghost_ = kNoNode;
  std::unordered_map<uint64_t, int32_t> first_blocks_;  // unsalted keys of first blocks
  std::unordered_map<NodeId, uint64_t> first_block_of_;
};

}  // namespace ashlar
