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
  bool equal_blocks = false;  // a pool of blocks that any group takes, instead of an arena

  Result<CacheLayout> layout() const;
};

// Every mix of kinds, at this page length; memory for a few sequences of some hundred tokens.
std::vector<Mix> mixes(int32_t page_tokens);
// Mixes whose groups differ in page length ("*2": twice page_tokens), and pools of equal blocks.
std::vector<Mix> uneven_mixes(int32_t page_tokens);
std::vector<Mix> all_mixes(int32_t page_tokens);  // the two above

// Those of layers that do not look back over some boundaries, so that a prompt nobody has seen is
// found up to there.
std::vector<Mix> skipping_mixes(int32_t page_tokens);

// The mix of this name ("full+window/16": pages of 16 tokens), or null groups.
Mix mix_named(const std::string& name);

}  // namespace ashlar::sim
