#pragma once

// Geometries for the simulator: one per mix of layer kinds that published models have, with the
// proportions kept and the bytes small.

#include <string>
#include <vector>

#include "kv/cache.h"

namespace ashlar::sim {

struct Mix {
  std::string name;
  std::vector<CacheGroup> groups;
  CacheOptions options;
  int64_t memory_bytes = 0;
};

// Every mix, at this page length; memory for a few sequences of some hundred tokens.
std::vector<Mix> mixes(int32_t page_tokens);

// Those of layers that do not look back over some boundaries, so that a prompt nobody has seen is
// found up to there.
std::vector<Mix> skipping_mixes(int32_t page_tokens);

// The mix of this name ("full+window/16": pages of 16 tokens), or null groups.
Mix mix_named(const std::string& name);

}  // namespace ashlar::sim
