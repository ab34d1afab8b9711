#pragma once

// PoolCache: prefix reuse by the reference's rules (vLLM's V1 core: block pool, per-kind hit rules,
// hybrid fixed point, aligned states), over the uniform layout's groups. A peer to measure against
// and nothing else: no drafts, no partial blocks, no retention interval, no chunk layers. Recorded
// sessions of the reference hold it to its model (pool_cache_test.cc).

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "block_pool.h"
#include "kv/uniform_layer.h"

namespace ashlar::reuse {

struct PoolGroup {
  UniformKind kind = UniformKind::full;
  int32_t block_tokens = 16;
  int32_t window = 0;
  bool operator==(const PoolGroup&) const = default;
  bool keeps_all() const { return kind == UniformKind::full || kind == UniformKind::latent; }
};

struct PoolOptions {
  std::vector<PoolGroup> groups;
  int64_t n_blocks = 0;  // block 0 included
  int32_t max_model_len = 0;
  int32_t max_in_flight = 0;
  int32_t schedule_tokens = 16;  // hits are multiples of it
  int32_t hash_tokens = 16;
};

struct PoolHit {
  int32_t n_tokens = 0;
  int32_t branch = 0;                        // where a longer text than the hit is known to end
  std::vector<std::vector<int32_t>> blocks;  // by group
};

struct PoolRequest {
  std::vector<int32_t> tokens;  // known ones
  std::vector<uint64_t> hashes;
  int32_t n_prompt = 0;
  int32_t n_computed = 0;
  PoolHit hit;
  std::vector<std::vector<int32_t>> blocks;  // by group
  std::vector<int32_t> n_keyed;              // by group: blocks from the first on
  std::vector<int32_t> last_state;           // by group: block before the running state's
  bool admitted = false;
};

class PoolCache {
 public:
  explicit PoolCache(PoolOptions options);

  const BlockPool& pool() const { return pool_; }
  bool has_states() const { return has_states_; }

  // States that a step put into the index are not to be read in the same step.
  void begin_step() { keyed_this_step_.clear(); }
  PoolRequest add(std::vector<int32_t> prompt) const;
  void append(PoolRequest* request, std::span<const int32_t> tokens) const;
  // Fills request->hit.
  void look_up(PoolRequest* request) const;
  // Where a step of n tokens ends when states must lie at block ends; 0: not now.
  int32_t split(const PoolRequest& request, int32_t n) const;
  // Blocks for n tokens more, behind the hit if it is the first time. False: no room, nothing
  // taken.
  bool allocate(PoolRequest* request, int32_t n, int32_t lookahead, bool all_must_fit);
  void free(PoolRequest* request);

 private:
  using Lists = std::vector<std::vector<int32_t>>;

  int32_t find(const PoolRequest& request, size_t group, int32_t block) const;
  int32_t longest_hit(const PoolRequest& request, std::span<const size_t> groups, int32_t most,
                      Lists* blocks) const;
  bool find_all(const PoolRequest& request, std::span<const size_t> groups, int32_t block,
                Lists* blocks) const;
  int32_t skipped_tokens(const PoolGroup& group, int32_t n) const;
  int64_t blocks_needed(const PoolRequest& request, size_t group, int32_t computed, int32_t n,
                        int32_t with_lookahead, bool capped) const;
  void drop_skipped(PoolRequest* request, int32_t computed);
  void take_hit(PoolRequest* request);
  void add_blocks(PoolRequest* request, size_t group, int32_t n, int32_t with_lookahead);
  void key_blocks(PoolRequest* request, int32_t end);

  PoolOptions options_;
  bool has_states_ = false;
  std::vector<std::vector<size_t>>
      kinds_;  // groups of one kind and shape, those that keep all first
  BlockPool pool_;
  std::vector<int32_t> keyed_this_step_;  // states
};

}  // namespace ashlar::reuse
