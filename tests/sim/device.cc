#include "device.h"

#include <cstring>

#include "base/check.h"

namespace ashlar::sim {
namespace {

uint64_t load(const std::byte* at) {
  uint64_t value;
  std::memcpy(&value, at, sizeof value);
  return value;
}
void store(std::byte* at, uint64_t value) { std::memcpy(at, &value, sizeof value); }

std::byte* token_at(const Cache& cache, size_t group, uint32_t page, int64_t slot) {
  return cache.page(page) + slot * cache.groups()[group].token_bytes();
}

// A state page carries its boundary in front, and its text and layer at its end.
uint64_t state_mark(uint64_t tag, int64_t layer) { return tag ^ static_cast<uint64_t>(layer + 1); }

std::byte* state_end(const Cache& cache, size_t group, uint32_t page) {
  return cache.page(page) + cache.groups()[group].state_bytes - 8;
}

void write_state(const Cache& cache, size_t group, std::span<const uint32_t> pages, int32_t n,
                 uint64_t tag) {
  for (size_t layer = 0; layer < pages.size(); ++layer) {
    store(cache.page(pages[layer]), static_cast<uint64_t>(n));
    store(state_end(cache, group, pages[layer]), state_mark(tag, static_cast<int64_t>(layer)));
  }
}

void check_state(const Cache& cache, size_t group, std::span<const uint32_t> pages, int32_t n,
                 uint64_t tag) {
  for (size_t layer = 0; layer < pages.size(); ++layer) {
    const uint64_t boundary = load(cache.page(pages[layer]));
    CHECK(boundary == static_cast<uint64_t>(n), "group {} layer {}: a state of {} tokens at {}",
          group, layer, boundary, n);
    CHECK(
        load(state_end(cache, group, pages[layer])) == state_mark(tag, static_cast<int64_t>(layer)),
        "group {} layer {}: another text's state at {}", group, layer, n);
  }
}

std::span<const uint32_t> slot_pages(const Cache& cache, const Tables& tables, size_t group,
                                     int32_t slot) {
  const auto n_layers = static_cast<size_t>(cache.groups()[group].n_layers());
  return std::span(tables.pages[group]).subspan(static_cast<size_t>(slot) * n_layers, n_layers);
}

}  // namespace

uint64_t next_tag(uint64_t before, int32_t token) {
  uint64_t x = before + 0x9E3779B97F4A7C15u * (static_cast<uint64_t>(token) + 1);
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

void check_reads(const Cache& cache, const DeviceSlice& slice) {
  for (size_t g = 0; g < cache.groups().size(); ++g) {
    const CacheGroup& group = cache.groups()[g];
    if (group.kind == LayerKind::state) {
      if (slice.begin == 0) continue;  // a text begins with no state
      check_state(cache, g, slot_pages(cache, *slice.tables, g, 0), slice.begin,
                  slice.tags[static_cast<size_t>(slice.begin) - 1]);
      continue;
    }
    for (int32_t t = first_needed(group, slice.begin); t < slice.begin; ++t) {
      const uint32_t page = slice.tables->pages[g][static_cast<size_t>(t / group.page_tokens)];
      CHECK(page != kNoPage, "group {}: token {} of {} has no page", g, t, slice.begin);
      CHECK(load(token_at(cache, g, page, t % group.page_tokens)) ==
                slice.tags[static_cast<size_t>(t)],
            "group {}: page {} carries another token at {} of {}", g, page, t, slice.begin);
    }
  }
}

void write(const Cache& cache, const DeviceSlice& slice) {
  for (size_t g = 0; g < cache.groups().size(); ++g) {
    const CacheGroup& group = cache.groups()[g];
    if (group.kind == LayerKind::state) {
      const int32_t first = slice.slots == 0 ? slice.end : slice.begin + 1;
      for (int32_t n = first; n <= slice.end; ++n) {
        const int32_t slot = slice.slots == 0 ? 0 : n - slice.begin;
        write_state(cache, g, slot_pages(cache, *slice.tables, g, slot), n,
                    slice.tags[static_cast<size_t>(n) - 1]);
      }
      continue;
    }
    for (int32_t t = slice.begin; t < slice.end; ++t) {
      const auto block = static_cast<size_t>(t / group.page_tokens);
      CHECK(block >= slice.tables->nodes.size(), "group {}: a write into a shared page", g);
      store(token_at(cache, g, slice.tables->pages[g][block], t % group.page_tokens),
            slice.tags[static_cast<size_t>(t)]);
    }
  }
}

void check_page(const Cache& cache, size_t group, uint32_t page, std::span<const uint64_t> tags) {
  for (size_t slot = 0; slot < tags.size(); ++slot) {
    CHECK(load(token_at(cache, group, page, static_cast<int64_t>(slot))) == tags[slot],
          "group {}: a cached page {} carries another token at {}", group, page, slot);
  }
}

}  // namespace ashlar::sim
