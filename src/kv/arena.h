#pragma once

// Arena: which granules belong to which page. It knows offsets and counts, never bytes.
//
// Pages come from slabs (layout.h). Allocation prefers the fullest slab of its group that has room,
// so that half-empty slabs drain and return to the arena, where any group may lease them. Engine
// thread only.

#include <cstdint>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "kv/layout.h"
#include "tensor/paged.h"

namespace ashlar {

class Arena {
 public:
  explicit Arena(ArenaLayout layout);

  const ArenaLayout& layout() const { return layout_; }

  // Whether n_pages[g] more pages of every group g fit, all together.
  bool fits(std::span<const int64_t> n_pages) const;

  // A page of `group` as its offset in granules. REQUIRES that one fits.
  uint32_t allocate(size_t group);
  // REQUIRES a page that allocate(group) gave and nobody freed.
  void free(size_t group, uint32_t page);

  int64_t live_pages(size_t group) const { return live_pages_[group]; }
  int64_t leased_slabs(size_t group) const { return leased_slabs_[group]; }
  int64_t free_slabs() const { return static_cast<int64_t>(free_slabs_.size()); }

  // Aborts unless every count and every page agree (docs/contracts.md, arena).
  void audit() const;

 private:
  static constexpr int32_t kNoGroup = -1;
  struct Slab {
    int32_t group = kNoGroup;
    int32_t n_used = 0;
    std::vector<bool> used;           // by slot
    std::vector<int32_t> free_slots;  // the last one is next
  };

  void lease(size_t group);
  int64_t granules_per_slab() const { return layout_.slab_bytes / kGranuleBytes; }
  int64_t granules_per_page(size_t group) const {
    return layout_.groups[group].page_bytes / kGranuleBytes;
  }

  ArenaLayout layout_;
  std::vector<Slab> slabs_;
  std::vector<int32_t> free_slabs_;  // the last one is leased next
  // Slabs with room, by group, as (pages used, slab): the last is the fullest.
  std::vector<std::set<std::pair<int32_t, int32_t>>> open_slabs_;
  std::vector<int64_t> live_pages_;
  std::vector<int64_t> leased_slabs_;
};

}  // namespace ashlar
