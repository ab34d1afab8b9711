#pragma once

// What the cache counts since it began.

#include <cstdint>

namespace ashlar {

// Why tokens of a prompt were not found: one primary reason a request, and tokens by reason.
enum class Miss : uint8_t { too_short, no_state, evicted, salt, never_seen };
constexpr int kMisses = 5;
const char* name(Miss miss);

struct CacheStats {
  int64_t n_matches = 0;
  int64_t prompt_tokens = 0;
  int64_t hit_tokens = 0;
  int64_t miss_requests[kMisses] = {};
  int64_t miss_tokens[kMisses] = {};
  int64_t n_evicted = 0;  // entries
  int64_t n_moved = 0;    // pages, to empty a slab
  int64_t n_snapshots = 0;
  int64_t n_snapshots_refused = 0;  // no room among pages that are held
};

}  // namespace ashlar
