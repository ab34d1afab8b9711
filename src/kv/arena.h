#pragma once

// Arena: which granules belong to which page. It knows offsets, counts and who to tell when a page
// moves, never bytes.
//
// Pages come from slabs (layout.h). Allocation prefers the fullest slab of its group that has room,
// so that half-empty slabs drain and return to the arena, where any group may lease them. Every
// operation but drain() takes constant time. Engine thread only.

#include <cstdint>
#include <span>
#include <vector>

#include "kv/layout.h"
#include "tensor/paged.h"

namespace ashlar {

// Who holds a page: two words whose meaning is the caller's, handed back when the page moves.
struct PageOwner {
  uint32_t who = 0;
  uint32_t index = 0;
  bool operator==(const PageOwner&) const = default;
};

struct MovedPage {
  uint32_t from = 0;
  uint32_t to = 0;
  PageOwner owner;
};

class Arena {
 public:
  explicit Arena(ArenaLayout layout);

  const ArenaLayout& layout() const { return layout_; }

  // Whether n_pages[g] more pages of every group g fit, all together, as the slabs are leased now.
  bool fits(std::span<const int64_t> n_pages) const;

  // A page of `group` as its offset in granules. REQUIRES that one fits.
  uint32_t allocate(size_t group, PageOwner owner = {});
  // REQUIRES a page that allocate(group) gave and nobody freed; so do the next two.
  void free(size_t group, uint32_t page);
  void set_owner(size_t group, uint32_t page, PageOwner owner);
  PageOwner owner(size_t group, uint32_t page) const;

  // Pages in the emptiest leased slab of the group; 0 when it has none.
  int64_t emptiest(size_t group) const;
  // Moves the pages of that slab into others of the group and returns it to the arena. The books
  // only: the caller copies the bytes and tells the owners. REQUIRES as much room in the others.
  std::vector<MovedPage> drain_emptiest(size_t group);

  int64_t live_pages(size_t group) const { return live_pages_[group]; }
  int64_t leased_slabs(size_t group) const { return leased_slabs_[group]; }
  int64_t free_slabs() const { return static_cast<int64_t>(free_slabs_.size()); }

  // Aborts unless every count and every page agree (docs/contracts.md, arena).
  void audit() const;

 private:
  static constexpr int32_t kNone = -1;
  static constexpr PageOwner kFreeSlot = {0xFFFFFFFFu, 0xFFFFFFFFu};
  struct Slab {
    int32_t group = kNone;
    int32_t n_used = 0;
    int32_t previous = kNone;  // among the slabs of its group with as many pages used
    int32_t next = kNone;
    std::vector<PageOwner> owners;    // by slot; kFreeSlot: free
    std::vector<int32_t> free_slots;  // the last one is next
  };
  // A group's leased slabs by pages used: heads[n] is the last listed one with n.
  struct Shelf {
    std::vector<int32_t> heads;
    int32_t fullest = 0;  // no slab with room has more pages used
  };
  struct Slot {
    int32_t slab = 0;
    int32_t slot = 0;
  };

  Slot slot_of(size_t group, uint32_t page) const;
  void lease(size_t group);
  void list(int32_t index);
  void unlist(int32_t index);
  int32_t fullest_with_room(size_t group);

  ArenaLayout layout_;
  uint32_t slab_granules_ = 0;
  std::vector<uint32_t> page_granules_;  // by group
  std::vector<Slab> slabs_;
  std::vector<int32_t> free_slabs_;  // the last one is leased next
  std::vector<Shelf> shelves_;       // by group
  std::vector<int64_t> live_pages_;
  std::vector<int64_t> leased_slabs_;
};

}  // namespace ashlar
