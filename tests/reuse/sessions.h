#pragma once

// Sessions in the style of the recorded ones, drawn at random and answered by the reference's rules
// (pool_cache.h): a few texts that share beginnings, at most three requests at a time, pools that
// hold one to a dozen of them. Replay plays them on our cache.

#include <cstdint>
#include <string>
#include <vector>

#include "kv/replay.h"

namespace ashlar::reuse {

// Names of the families that can be drawn: those of the recorded ones whose rules the pool has.
std::vector<std::string> session_families();
// The same for the same seed. REQUIRES one of the families.
ReplaySession draw_session(const std::string& family, uint32_t seed);

struct SessionTotals {
  int64_t hit = 0;  // tokens
  int64_t reference = 0;
  int64_t n_losses = 0;  // lookups that found less
  int64_t n_invalid = 0;
  int64_t n_refused = 0;
};

// Of the sessions with n seeds from the first on.
SessionTotals play_sessions(const std::string& family, uint32_t first_seed, uint32_t n);

}  // namespace ashlar::reuse
