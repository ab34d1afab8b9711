#include "kv/arena.h"

#include <algorithm>

#include "base/check.h"
#include "base/checked.h"

namespace ashlar {

Arena::Arena(ArenaLayout layout)
    : layout_(std::move(layout)),
      slab_granules_(static_cast<uint32_t>(layout_.slab_bytes / kGranuleBytes)),
      slabs_(static_cast<size_t>(layout_.n_slabs)),
      shelves_(layout_.groups.size()),
      live_pages_(layout_.groups.size(), 0),
      leased_slabs_(layout_.groups.size(), 0) {
  for (auto slab = static_cast<int32_t>(slabs_.size()) - 1; slab >= 0; --slab)
    free_slabs_.push_back(slab);
  for (size_t g = 0; g < layout_.groups.size(); ++g) {
    page_granules_.push_back(static_cast<uint32_t>(layout_.groups[g].page_bytes / kGranuleBytes));
    shelves_[g].heads.assign(static_cast<size_t>(layout_.groups[g].pages_per_slab) + 1, kNone);
  }
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

void Arena::list(int32_t index) {
  Slab& slab = slabs_[static_cast<size_t>(index)];
  Shelf& shelf = shelves_[static_cast<size_t>(slab.group)];
  int32_t& head = shelf.heads[static_cast<size_t>(slab.n_used)];
  slab.previous = kNone;
  slab.next = head;
  if (head != kNone) slabs_[static_cast<size_t>(head)].previous = index;
  head = index;
  if (!slab.free_slots.empty()) shelf.fullest = std::max(shelf.fullest, slab.n_used);
}

void Arena::unlist(int32_t index) {
  Slab& slab = slabs_[static_cast<size_t>(index)];
  if (slab.previous != kNone) {
    slabs_[static_cast<size_t>(slab.previous)].next = slab.next;
  } else {
    shelves_[static_cast<size_t>(slab.group)].heads[static_cast<size_t>(slab.n_used)] = slab.next;
  }
  if (slab.next != kNone) slabs_[static_cast<size_t>(slab.next)].previous = slab.previous;
}

void Arena::lease(size_t group) {
  CHECK(!free_slabs_.empty(), "group {}: no free slab; fits() was not asked", group);
  const int32_t index = free_slabs_.back();
  free_slabs_.pop_back();
  Slab& slab = slabs_[static_cast<size_t>(index)];
  slab.group = static_cast<int32_t>(group);
  const int32_t n_pages = layout_.groups[group].pages_per_slab;
  slab.owners.assign(static_cast<size_t>(n_pages), kFreeSlot);
  slab.free_slots.clear();
  for (int32_t slot = n_pages - 1; slot >= 0; --slot) slab.free_slots.push_back(slot);
  list(index);
  ++leased_slabs_[group];
}

int32_t Arena::fullest_with_room(size_t group) {
  Shelf& shelf = shelves_[group];
  for (; shelf.fullest >= 0; --shelf.fullest) {
    const int32_t head = shelf.heads[static_cast<size_t>(shelf.fullest)];
    if (head != kNone && shelf.fullest < layout_.groups[group].pages_per_slab) return head;
  }
  shelf.fullest = 0;
  lease(group);
  return shelf.heads[0];
}

uint32_t Arena::allocate(size_t group, PageOwner owner) {
  const int32_t index = fullest_with_room(group);
  Slab& slab = slabs_[static_cast<size_t>(index)];
  unlist(index);
  const int32_t slot = slab.free_slots.back();
  slab.free_slots.pop_back();
  slab.owners[static_cast<size_t>(slot)] = owner;
  ++slab.n_used;
  ++live_pages_[group];
  list(index);
  return static_cast<uint32_t>(index) * slab_granules_ +
         static_cast<uint32_t>(slot) * page_granules_[group];
}

Arena::Slot Arena::slot_of(size_t group, uint32_t page) const {
  const uint32_t index = page / slab_granules_;
  CHECK(index < slabs_.size(), "page {} is outside the arena", page);
  const Slab& slab = slabs_[index];
  const uint32_t within = page % slab_granules_;
  const uint32_t slot = within / page_granules_[group];
  CHECK(slab.group == static_cast<int32_t>(group) && slot * page_granules_[group] == within &&
            slab.owners[slot] != kFreeSlot,
        "page {} is no live page of group {}", page, group);
  return {static_cast<int32_t>(index), static_cast<int32_t>(slot)};
}

void Arena::free(size_t group, uint32_t page) {
  const Slot at = slot_of(group, page);
  Slab& slab = slabs_[static_cast<size_t>(at.slab)];
  unlist(at.slab);
  slab.owners[static_cast<size_t>(at.slot)] = kFreeSlot;
  slab.free_slots.push_back(at.slot);
  --slab.n_used;
  --live_pages_[group];
  if (slab.n_used > 0) return list(at.slab);
  slab.group = kNone;
  free_slabs_.push_back(at.slab);
  --leased_slabs_[group];
}

void Arena::set_owner(size_t group, uint32_t page, PageOwner owner) {
  const Slot at = slot_of(group, page);
  slabs_[static_cast<size_t>(at.slab)].owners[static_cast<size_t>(at.slot)] = owner;
}

PageOwner Arena::owner(size_t group, uint32_t page) const {
  const Slot at = slot_of(group, page);
  return slabs_[static_cast<size_t>(at.slab)].owners[static_cast<size_t>(at.slot)];
}

int64_t Arena::emptiest(size_t group) const {
  const std::vector<int32_t>& heads = shelves_[group].heads;
  const auto found =
      std::find_if(heads.begin(), heads.end(), [](int32_t head) { return head != kNone; });
  return found == heads.end() ? 0 : found - heads.begin();
}

std::vector<MovedPage> Arena::drain_emptiest(size_t group) {
  const int32_t index = shelves_[group].heads[static_cast<size_t>(emptiest(group))];
  CHECK(index != kNone, "group {} has no slab to drain", group);
  unlist(index);  // so that no page moves into the slab it leaves
  Slab& slab = slabs_[static_cast<size_t>(index)];
  std::vector<MovedPage> moved;
  for (size_t slot = 0; slot < slab.owners.size(); ++slot) {
    if (slab.owners[slot] == kFreeSlot) continue;
    const uint32_t from = static_cast<uint32_t>(index) * slab_granules_ +
                          static_cast<uint32_t>(slot) * page_granules_[group];
    moved.push_back({from, allocate(group, slab.owners[slot]), slab.owners[slot]});
  }
  live_pages_[group] -= slab.n_used;
  slab.n_used = 0;
  slab.group = kNone;
  slab.owners.clear();
  free_slabs_.push_back(index);
  --leased_slabs_[group];
  return moved;
}

void Arena::audit() const {
  std::vector<int64_t> live(layout_.groups.size(), 0), leased(layout_.groups.size(), 0);
  int64_t free_slabs = 0;
  for (size_t i = 0; i < slabs_.size(); ++i) {
    const Slab& slab = slabs_[i];
    if (slab.group == kNone) {
      ++free_slabs;
      continue;
    }
    const auto group = static_cast<size_t>(slab.group);
    const auto used = std::count_if(slab.owners.begin(), slab.owners.end(),
                                    [](PageOwner owner) { return owner != kFreeSlot; });
    CHECK(used == slab.n_used && used > 0, "slab {}: {} slots used, {} counted", i, used,
          slab.n_used);
    CHECK(used + static_cast<int64_t>(slab.free_slots.size()) ==
          layout_.groups[group].pages_per_slab);
    CHECK(slab.free_slots.empty() || slab.n_used <= shelves_[group].fullest,
          "slab {} has room and is fuller than group {} believes", i, group);
    live[group] += used;
    ++leased[group];
  }
  CHECK(free_slabs == static_cast<int64_t>(free_slabs_.size()));
  CHECK(live == live_pages_ && leased == leased_slabs_);
  for (size_t g = 0; g < shelves_.size(); ++g) {
    int64_t listed = 0;
    for (size_t n = 0; n < shelves_[g].heads.size(); ++n) {
      int32_t previous = kNone;
      for (int32_t i = shelves_[g].heads[n]; i != kNone; i = slabs_[static_cast<size_t>(i)].next) {
        const Slab& slab = slabs_[static_cast<size_t>(i)];
        CHECK(slab.group == static_cast<int32_t>(g) && slab.n_used == static_cast<int32_t>(n) &&
                  slab.previous == std::exchange(previous, i),
              "slab {} is listed where it does not belong", i);
        ++listed;
      }
    }
    CHECK(listed == leased_slabs_[g], "group {}: {} slabs listed, {} leased", g, listed,
          leased_slabs_[g]);
  }
}

}  // namespace ashlar
