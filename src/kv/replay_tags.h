#pragma once

// Tags: pages that say which tokens they stand for, written where a step would write K, V and
// states. A token's tag is a hash of everything before it, so a page that carries another text's
// tokens, another position's or none is told apart. They are bytes of the cache's own pages: copies
// that were forgotten, reordered or cut short show.

#include <cstdint>
#include <span>
#include <string>

#include "kv/cache.h"

namespace ashlar {

// The tag of the token after a text with tag `before`.
uint64_t next_tag(uint64_t before, int32_t token);

// Writes tokens [begin, end), and the state after `end` or, given slots, that after each token into
// slots 1 on, into the pages of `tables`, which reserve gave. `tags` are of all its tokens up to
// `end`. Aborts at a write into a shared page.
void write_tags(const Cache& cache, const Tables& tables, std::span<const uint64_t> tags,
                int32_t begin, int32_t end, int32_t n_slots = 0);

// Whether the token in this slot of a page of `group` is the tag's.
bool holds_tag(const Cache& cache, size_t group, uint32_t page, int64_t slot, uint64_t tag);

// What the query at position n reads, or copies first: the tokens each kind requires before n, and
// the state after n, which after a match is still a snapshot's. Empty when all is as `tags` say;
// otherwise the first thing wrong. No copy may be pending.
std::string check_tags(const Cache& cache, const Tables& tables, std::span<const uint64_t> tags,
                       int32_t n);

}  // namespace ashlar
