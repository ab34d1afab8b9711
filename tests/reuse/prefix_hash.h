#pragma once

// Hashes of prefixes, block by block. Good enough where nobody tries to make them collide.

#include <cstdint>
#include <span>
#include <vector>

namespace ashlar::reuse {

inline uint64_t next_hash(uint64_t before, int64_t value) {
  uint64_t x =
      before * 0xD1342543DE82EF95u + 0x9E3779B97F4A7C15u * static_cast<uint64_t>(value + 1);
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

// Of every whole block: a hash of all tokens up to its end. Extends `hashes`.
inline void add_prefix_hashes(std::span<const int32_t> tokens, int32_t block_tokens,
                              std::vector<uint64_t>* hashes) {
  const auto block = static_cast<size_t>(block_tokens);
  uint64_t hash = hashes->empty() ? 1 : hashes->back();
  while ((hashes->size() + 1) * block <= tokens.size()) {
    for (const int32_t token : tokens.subspan(hashes->size() * block, block))
      hash = next_hash(hash, token);
    hashes->push_back(hash);
  }
}

inline std::vector<uint64_t> prefix_hashes(std::span<const int32_t> tokens, int32_t block_tokens) {
  std::vector<uint64_t> hashes;
  add_prefix_hashes(tokens, block_tokens, &hashes);
  return hashes;
}

}  // namespace ashlar::reuse
