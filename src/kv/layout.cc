#include "kv/layout.h"

#include <algorithm>

#include "base/checked.h"
#include "tensor/paged.h"

namespace ashlar {
namespace {

// A slab holds at least this much, so that a large arena of tiny pages has few slabs to keep book
// of ...
constexpr int64_t kMinSlabBytes = int64_t{64} << 10;
// ... and at most this many of the largest page, so that a slab empties and returns soon.
constexpr int64_t kMaxLargestPages = 8;
// ... unless a longer one loses less than this part of itself where the short ones lose more.
constexpr double kFineRemainder = 0.005;
// Fewer slabs than this and one group's lease starves the others.
constexpr int64_t kWantedSlabs = 32;

// The worst part of a slab lost to any group, in [0, 1).
double worst_remainder(std::span<const CacheGroup> groups, int64_t slab_bytes) {
  double worst = 0;
  for (const CacheGroup& group : groups) {
    const auto lost = static_cast<double>(slab_bytes % group.page_bytes());
    worst = std::max(worst, lost / static_cast<double>(slab_bytes));
  }
  return worst;
}

struct SlabChoice {
  int64_t bytes = 0;
  double lost = 2;  // more than anything loses
};

// The slab in [low, high] that loses least; the shortest of several.
SlabChoice best_slab(std::span<const CacheGroup> groups, int64_t low, int64_t high) {
  SlabChoice best;
  for (const CacheGroup& group : groups) {
    const int64_t page = group.page_bytes();
    for (int64_t slab = round_up(low, page); slab <= high; slab += page) {
      const double lost = worst_remainder(groups, slab);
      if (lost < best.lost || (lost == best.lost && slab < best.bytes)) best = {slab, lost};
    }
  }
  return best;
}

int64_t choose_slab_bytes(std::span<const CacheGroup> groups, int64_t memory_bytes) {
  int64_t largest = 0;
  for (const CacheGroup& group : groups) largest = std::max(largest, group.page_bytes());
  const int64_t most = memory_bytes / kWantedSlabs;
  const int64_t low = std::max(largest, std::min(kMinSlabBytes, most));
  int64_t high =
      std::max(low + largest, std::min(kMaxLargestPages * std::max(largest, kMinSlabBytes), most));
  SlabChoice best = best_slab(groups, low, high);
  for (; best.lost > kFineRemainder && high < most; high *= 2) {
    const SlabChoice longer = best_slab(groups, high, std::min(2 * high, most));
    if (longer.lost < best.lost) best = longer;
  }
  return best.bytes;
}

std::vector<int64_t> dense_offsets(const CacheGroup& group) {
  std::vector<int64_t> offsets;
  for (int64_t i = 0; group.has_tokens() && i < group.n_layers(); ++i)
    offsets.push_back(i * group.layer_bytes());
  return offsets;
}

}  // namespace

Result<ArenaLayout> arena_layout(std::span<const CacheGroup> groups, int64_t memory_bytes) {
  CHECK(!groups.empty());
  if (memory_bytes > (kGranuleBytes << 32)) {
    return unsupported("cache memory {}: one arena addresses at most {}", human_bytes(memory_bytes),
                       human_bytes(kGranuleBytes << 32));
  }
  ArenaLayout layout;
  layout.slab_bytes = choose_slab_bytes(groups, memory_bytes);
  layout.n_slabs = memory_bytes / layout.slab_bytes;
  for (const CacheGroup& group : groups) {
    layout.groups.push_back(
        {.page_bytes = group.page_bytes(),
         .page_data_bytes = group.page_data_bytes(),
         .pages_per_slab = static_cast<int32_t>(layout.slab_bytes / group.page_bytes()),
         .layer_offsets = dense_offsets(group)});
  }
  if (layout.n_slabs < static_cast<int64_t>(groups.size())) {
    return error(Code::exhausted,
                 "cache memory {} ({} bytes): {} cache groups need at least one slab of {} each; "
                 "give at least {}",
                 human_bytes(memory_bytes), memory_bytes, groups.size(),
                 human_bytes(layout.slab_bytes), human_bytes(layout.slab_bytes * groups.size()));
  }
  return layout;
}

Result<CacheLayout> arena_cache_layout(std::vector<CacheGroup> groups, int64_t memory_bytes) {
  TRY(ArenaLayout arena, arena_layout(groups, memory_bytes));
  return CacheLayout{std::move(groups), std::move(arena)};
}

}  // namespace ashlar
