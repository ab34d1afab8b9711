#pragma once

// UniformLayout: the cache laid out as vLLM does it: one pool of equal blocks for all groups, each
// tensor shared by one layer of every group. A pure function of layers, memory and options,
// printable. It exists for comparison with the arena layout and for kernels that want one stride.
//
// Numbers, and where the reference refuses, the refusals, are those of vLLM's V1 cache
// configuration (uniform_groups.h says which error code stands for which of its exceptions). Sizes
// are bytes of one worker.

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kv/uniform_groups.h"

namespace ashlar {

struct UniformOptions {
  int64_t max_model_len = 0;
  int64_t max_in_flight_tokens = 0;  // scheduled and not yet settled, over all concurrent steps
  int64_t cache_block_tokens = 16;   // the --block-size flag; a lone group's reuse grain
  bool fit_max_model_len = false;    // lower max_model_len to what fits instead of refusing
  bool disable_hybrid = false;       // promote window and chunk layers to full
  bool prefix_caching = true;
  std::optional<int64_t> n_blocks;           // overrides the count that memory gives
  std::optional<int64_t> prefix_match_unit;  // tokens per hash; default: what divides all blocks
  StateMode state_mode = StateMode::none;
  int64_t context_ranks = 1;  // decode context parallel size
  int64_t pack = 1;           // attention layers per page

  UniformLimits limits() const {
    return {max_model_len, max_in_flight_tokens, context_ranks, state_mode};
  }
};

// Bytes that several layers, at most one of each group, use in turn: block b of any of them is
// [b * page, (b + 1) * page).
struct UniformTensor {
  int64_t size_bytes = 0;
  std::vector<std::string> shared_by;
};

struct UniformLayout {
  int64_t n_blocks = 0;
  int64_t max_model_len = 0;  // the option's, or what fits
  std::vector<UniformGroup> groups;
  std::vector<UniformTensor> tensors;
};

struct UniformWorker {
  std::vector<UniformLayer> layers;
  int64_t memory_bytes = 0;
};

// One layout per worker, over groups made from all workers' layers and with one block count. Errors
// as uniform_groups; exhausted when one request of max_model_len does not fit some worker, naming
// what it needs, what there is and how long a request may be; invalid for a number out of range.
Result<std::vector<UniformLayout>> uniform_layouts(std::span<const UniformWorker> workers,
                                                   const UniformOptions& options);
Result<UniformLayout> uniform_layout(std::vector<UniformLayer> layers, int64_t memory_bytes,
                                     const UniformOptions& options);

// Bytes that one block takes from the pool, whichever group holds it. REQUIRES groups.
int64_t block_bytes(std::span<const UniformGroup> groups);

// What the memory holds.
struct UniformCapacity {
  std::vector<int64_t> blocks_per_request;  // of max_model_len tokens, by group
  double max_concurrency = 0;               // such requests; 0 without groups
  int64_t kv_tokens = 0;                    // as advertised: concurrency times length
};
// At `limits.max_model_len`, which need not be the layout's.
Result<UniformCapacity> uniform_capacity(const UniformLayout& layout, const UniformLimits& limits);

// Tokens between two points at which a prefix can be reused, and per hash.
struct UniformGrain {
  int64_t schedule_tokens = 0;
  int64_t hash_tokens = 0;
};
// invalid when prefix_match_unit does not divide every group's block.
Result<UniformGrain> uniform_grain(std::span<const UniformGroup> groups,
                                   const UniformOptions& options);

// Lines for people: groups with layers, blocks and bytes, and what each wastes.
std::string to_text(const UniformLayout& layout);

}  // namespace ashlar
