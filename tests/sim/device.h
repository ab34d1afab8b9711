#pragma once

// A device that computes nothing: it writes into pages which tokens they stand for, and checks what
// it reads. A token's tag is a hash of everything before it, so a page that carries another text's
// tokens, another position's or none is told apart. Pages are the cache's own bytes: copies that
// were forgotten, reordered or cut short show.

#include <cstdint>
#include <span>

#include "kv/cache.h"

namespace ashlar::sim {

// The tag of the token after a text with tag `before`.
uint64_t next_tag(uint64_t before, int32_t token);

struct DeviceSlice {
  const Tables* tables = nullptr;
  std::span<const uint64_t> tags;  // of all its tokens up to `end`
  int32_t begin = 0;
  int32_t end = 0;
  int32_t slots = 0;  // 0: the state is overwritten
};

// Aborts when a page that the rows [begin, end) read is not what it should be.
void check_reads(const Cache& cache, const DeviceSlice& slice);
// Writes the rows' tokens, and the state after the last one or after each.
void write(const Cache& cache, const DeviceSlice& slice);

// Aborts unless the page holds exactly these tokens.
void check_page(const Cache& cache, size_t group, uint32_t page, std::span<const uint64_t> tags);

}  // namespace ashlar::sim
