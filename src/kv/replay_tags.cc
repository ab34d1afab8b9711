#include "kv/replay_tags.h"

#include <cstring>

#include "base/check.h"
#include "base/text.h"

namespace ashlar {
namespace {

uint64_t load(const std::byte* at) {
  uint64_t value;
  std::memcpy(&value, at, sizeof value);
  return value;
}
void store(std::byte* at, uint64_t value) { std::memcpy(at, &value, sizeof value); }

// A tag stands at both ends of what it marks, the far one changed, so that half a copy shows.
void mark(std::byte* begin, int64_t n_bytes, uint64_t tag) {
  store(begin, tag);
  store(begin + n_bytes - 8, ~tag);
}
bool has_mark(const std::byte* begin, int64_t n_bytes, uint64_t tag) {
  return load(begin) == tag && load(begin + n_bytes - 8) == ~tag;
}

// A part of the page as long as a token's bytes: where in a page which head's row lies is no
// matter here.
std::byte* token_at(const Cache& cache, size_t group, uint32_t page, int64_t slot) {
  return cache.page(page) + slot * cache.groups()[group].token_bytes();
}

uint64_t state_tag(uint64_t tag, size_t layer) { return tag ^ (layer + 1); }

void write_state(const Cache& cache, const Tables& tables, size_t group, int32_t slot,
                 uint64_t tag) {
  const auto n_layers = static_cast<size_t>(cache.groups()[group].n_layers());
  const std::span<const uint32_t> pages =
      std::span(tables.pages[group]).subspan(static_cast<size_t>(slot) * n_layers, n_layers);
  for (size_t layer = 0; layer < n_layers; ++layer) {
    mark(cache.page(pages[layer]), cache.groups()[group].state_bytes, state_tag(tag, layer));
  }
}

std::string check_states(const Cache& cache, const Tables& tables, size_t group, size_t* at,
                         uint64_t tag, int32_t n) {
  const auto n_layers = static_cast<size_t>(cache.groups()[group].n_layers());
  const bool waits = tables.resume != kNoNode;
  const std::span<const uint32_t> pages =
      waits ? cache.snapshot_pages(tables.resume).subspan(*at, n_layers)
            : std::span(tables.pages[group]);
  *at += n_layers;
  if (pages.size() < n_layers) return fmt::format("group {}: no state at {}", group, n);
  for (size_t layer = 0; layer < n_layers; ++layer) {
    if (!has_mark(cache.page(pages[layer]), cache.groups()[group].state_bytes,
                  state_tag(tag, layer))) {
      return fmt::format("group {}: {} {} is not the state after {} tokens of this text", group,
                         waits ? "snapshot page" : "page", pages[layer], n);
    }
  }
  return "";
}

}  // namespace

// Steele, Lea and Flood's SplitMix64 (2014), one step from the tag before.
uint64_t next_tag(uint64_t before, int32_t token) {
  uint64_t x = before + 0x9E3779B97F4A7C15u * (static_cast<uint64_t>(token) + 1);
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

void write_tags(const Cache& cache, const Tables& tables, std::span<const uint64_t> tags,
                int32_t begin, int32_t end, int32_t n_slots) {
  for (size_t g = 0; g < cache.groups().size(); ++g) {
    const CacheGroup& group = cache.groups()[g];
    if (!group.has_tokens()) {
      if (n_slots == 0) write_state(cache, tables, g, 0, tags[static_cast<size_t>(end) - 1]);
      for (int32_t slot = 1; slot <= n_slots; ++slot) {
        write_state(cache, tables, g, slot, tags[static_cast<size_t>(begin + slot) - 1]);
      }
      continue;
    }
    for (int32_t t = begin; t < end; ++t) {
      const auto block = static_cast<size_t>(t / group.page_tokens);
      CHECK(block >= tables.nodes.size(), "group {}: a write into a shared page", g);
      mark(token_at(cache, g, tables.pages[g][block], t % group.page_tokens), group.token_bytes(),
           tags[static_cast<size_t>(t)]);
    }
  }
}

bool holds_tag(const Cache& cache, size_t group, uint32_t page, int64_t slot, uint64_t tag) {
  return has_mark(token_at(cache, group, page, slot), cache.groups()[group].token_bytes(), tag);
}

std::string check_tags(const Cache& cache, const Tables& tables, std::span<const uint64_t> tags,
                       int32_t n) {
  if (n == 0) return "";  // a text begins with nothing
  size_t state_at = 0;
  for (size_t g = 0; g < cache.groups().size(); ++g) {
    const CacheGroup& group = cache.groups()[g];
    if (!group.has_tokens()) {
      std::string wrong =
          check_states(cache, tables, g, &state_at, tags[static_cast<size_t>(n) - 1], n);
      if (!wrong.empty()) return wrong;
      continue;
    }
    for (int32_t t = first_needed(group, n); t < n; ++t) {
      const auto block = static_cast<size_t>(t / group.page_tokens);
      const auto& pages = tables.pages[g];
      if (block >= pages.size() || pages[block] == kNoPage)
        return fmt::format("group {}: token {}, read at {}, has no page", g, t, n);
      if (!holds_tag(cache, g, pages[block], t % group.page_tokens, tags[static_cast<size_t>(t)])) {
        return fmt::format("group {}: page {} does not hold token {} of this text, read at {}", g,
                           pages[block], t, n);
      }
    }
  }
  return "";
}

}  // namespace ashlar
