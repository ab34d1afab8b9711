#include "kv/arena.h"

#include <algorithm>

#include "base/check.h"
#include "base/checked.h"

namespace ashlar {

Arena::Arena(ArenaLayout layout)
    : layout_(std::move(layout)),
      slabs_(static_cast<size_t>(layout_.n_slabs)),
      open_slabs_(layout_.groups.size()),
      live_pages_(layout_.groups.size(), 0),
      leased_slabs_(layout_.groups.size(), 0) {
  for (auto slab = static_cast<int32_t>(slabs_.size()) - 1; slab >= 0; --slab)
    free_slabs_.push_back(slab);
}

bool Arena::fits(std::span<const int64_t> n_pages) const {
  int64_t slabs_needed = 0;
  for (size_t g = 0; g < layout_.groups.size(); ++g) {
    const int64_t per_slab = layout_.groups[g].pages_per_slab;
    const int64_t room = leased_slabs_[g] * per_slab - live_pages_[g];
    if (n_pages[g] > room) slabs_needed += ceil_div(n_pages[g] - room, per_slab);
  }
  return slabs_needed <= free_slabs();
}

void Arena::lease(size_t group) {
  CHECK(!free_slabs_.empty(), "group {}: no free slab; fits() was not asked", group);
  const int32_t index = free_slabs_.back();
  free_slabs_.pop_back();
  Slab& slab = slabs_[static_cast<size_t>(index)];
  slab.group = static_cast<int32_t>(group);
  const int32_t n_pages = layout_.groups[group].pages_per_slab;
  slab.used.assign(static_cast<size_t>(n_pages), false);
  slab.free_slots.clear();
  for (int32_t slot = n_pages - 1; slot >= 0; --slot) slab.free_slots.push_back(slot);
  open_slabs_[group].emplace(0, index);
  ++leased_slabs_[group];
}

uint32_t Arena::allocate(size_t group) {
  auto& open = open_slabs_[group];
  if (open.empty()) lease(group);
  const int32_t index = std::prev(open.end())->second;
  Slab& slab = slabs_[static_cast<size_t>(index)];
  open.erase(std::prev(open.end()));
  const int32_t slot = slab.free_slots.back();
  slab.free_slots.pop_back();
  slab.used[static_cast<size_t>(slot)] = true;
  ++slab.n_used;
  ++live_pages_[group];
  if (!slab.free_slots.empty()) open.emplace(slab.n_used, index);
  return static_cast<uint32_t>(index * granules_per_slab() + slot * granules_per_page(group));
}

void Arena::free(size_t group, uint32_t page) {
  const auto index = static_cast<int32_t>(page / granules_per_slab());
  CHECK(index < layout_.n_slabs, "page {} is outside the arena", page);
  Slab& slab = slabs_[static_cast<size_t>(index)];
  const int64_t within = page % granules_per_slab();
  const int64_t slot = within / granules_per_page(group);
  CHECK(slab.group == static_cast<int32_t>(group) && within % granules_per_page(group) == 0 &&
            slab.used[static_cast<size_t>(slot)],
        "page {} is no live page of group {}", page, group);
  open_slabs_[group].erase({slab.n_used, index});
  slab.used[static_cast<size_t>(slot)] = false;
  slab.free_slots.push_back(static_cast<int32_t>(slot));
  --slab.n_used;
  --live_pages_[group];
  if (slab.n_used > 0) {
    open_slabs_[group].emplace(slab.n_used, index);
    return;
  }
  slab.group = kNoGroup;
  free_slabs_.push_back(index);
  --leased_slabs_[group];
}

void Arena::audit() const {
  std::vector<int64_t> live(layout_.groups.size(), 0), leased(layout_.groups.size(), 0);
  int64_t free_slabs = 0;
  for (size_t i = 0; i < slabs_.size(); ++i) {
    const Slab& slab = slabs_[i];
    if (slab.group == kNoGroup) {
      ++free_slabs;
      continue;
    }
    const auto group = static_cast<size_t>(slab.group);
    const auto used = std::count(slab.used.begin(), slab.used.end(), true);
    CHECK(used == slab.n_used && used > 0, "slab {}: {} slots used, {} counted", i, used,
          slab.n_used);
    CHECK(used + static_cast<int64_t>(slab.free_slots.size()) ==
          layout_.groups[group].pages_per_slab);
    CHECK(slab.free_slots.empty() !=
          (open_slabs_[group].count({slab.n_used, static_cast<int32_t>(i)}) == 1));
    live[group] += used;
    ++leased[group];
  }
  CHECK(free_slabs == static_cast<int64_t>(free_slabs_.size()));
  CHECK(live == live_pages_ && leased == leased_slabs_);
}

}  // namespace ashlar
