#pragma once

// How much memory requests need under the uniform layout. Used by uniform.cc alone; sums that pass
// 2^63 bytes stay there, which is more than any memory.

#include <span>

#include "kv/uniform_groups.h"

namespace ashlar {

// Bytes that one request of limits.max_model_len tokens holds at most.
Result<int64_t> request_bytes(std::span<const UniformGroup> groups, const UniformLimits& limits);

// The longest request, up to limits.max_model_len, that fits in `memory_bytes`; 0: not one token.
Result<int64_t> longest_request(std::span<const UniformGroup> groups, UniformLimits limits,
                                int64_t memory_bytes);

// exhausted unless one request of limits.max_model_len fits.
Status check_memory(std::span<const UniformGroup> groups, const UniformLimits& limits,
                    int64_t memory_bytes);

}  // namespace ashlar
