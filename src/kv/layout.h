#pragma once

// ArenaLayout: how one span of memory is cut for a set of cache groups. A pure function of the
// groups and the byte count, printable, used by the allocator itself: what it says fits, fits.
//
// The arena is a row of equal slabs. A slab is leased to one group at a time and cut into that
// group's pages, so groups of any page sizes share the memory without a split ratio. The slab size
// is the one, within bounds, whose worst remainder over the groups' page sizes is smallest.
//
// A pool of equal blocks (uniform_cache.h) is the special case of a slab per block.

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "spec/groups.h"

namespace ashlar {

struct GroupLayout {
  int64_t page_bytes = 0;       // whole granules
  int64_t page_data_bytes = 0;  // of which hold data
  int32_t pages_per_slab = 0;
  // Of a token group: where each layer's part of a page begins.
  std::vector<int64_t> layer_offsets;
  bool operator==(const GroupLayout&) const = default;
};

struct ArenaLayout {
  const char* name = "arena";  // the flag's word for the function that made it
  int64_t slab_bytes = 0;
  int64_t n_slabs = 0;
  std::vector<GroupLayout> groups;

  int64_t arena_bytes() const { return slab_bytes * n_slabs; }
  // Bytes of a slab that hold no page when it is leased to `group`.
  int64_t slab_remainder(size_t group) const {
    return slab_bytes - groups[group].page_bytes * groups[group].pages_per_slab;
  }
};

// What a cache is made of: groups, each with its place in the layout.
struct CacheLayout {
  std::vector<CacheGroup> groups;
  ArenaLayout arena;
};

// exhausted when not even one slab fits in `memory_bytes`; unsupported above 1 TiB (32-bit
// granules).
Result<ArenaLayout> arena_layout(std::span<const CacheGroup> groups, int64_t memory_bytes);
Result<CacheLayout> arena_cache_layout(std::vector<CacheGroup> groups, int64_t memory_bytes);

}  // namespace ashlar
