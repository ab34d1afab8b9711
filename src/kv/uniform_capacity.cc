#include "kv/uniform_capacity.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "kv/uniform.h"

namespace ashlar {
namespace {

constexpr int64_t kCap = std::numeric_limits<int64_t>::max();

int64_t capped_mul(int64_t a, int64_t b) {
  int64_t product = 0;
  return __builtin_mul_overflow(a, b, &product) ? kCap : product;
}

int64_t capped_add(int64_t a, int64_t b) {
  int64_t sum = 0;
  return __builtin_add_overflow(a, b, &sum) ? kCap : sum;
}

double gib(int64_t bytes) { return static_cast<double>(bytes) / (int64_t{1} << 30); }

}  // namespace

Result<int64_t> request_bytes(std::span<const UniformGroup> groups, const UniformLimits& limits) {
  if (groups.empty()) return int64_t{0};
  int64_t total = 0;
  if (groups.size() == 1 && groups[0].mixed()) {
    for (const LayerPack& member : groups[0].members) {
      TRY(const int64_t blocks, request_blocks(member.spec, limits));
      total = capped_add(total, capped_mul(blocks, page_bytes(member.spec)));
    }
    return total;
  }
  for (const UniformGroup& group : groups) {
    TRY(const int64_t blocks, request_blocks(group, limits));
    total = capped_add(total, blocks);
  }
  return capped_mul(total, block_bytes(groups));
}

Result<int64_t> longest_request(std::span<const UniformGroup> groups, UniformLimits limits,
                                int64_t memory_bytes) {
  int64_t fits = 0;
  int64_t too_long = limits.max_model_len + 1;
  while (too_long - fits > 1) {
    limits.max_model_len = fits + (too_long - fits) / 2;
    TRY(const int64_t needed, request_bytes(groups, limits));
    (needed <= memory_bytes ? fits : too_long) = limits.max_model_len;
  }
  return fits;
}

Status check_memory(std::span<const UniformGroup> groups, const UniformLimits& limits,
                    int64_t memory_bytes) {
  if (memory_bytes <= 0) {
    return error(Code::exhausted, "KV cache memory {} bytes: no memory for any block; give more",
                 memory_bytes);
  }
  TRY(const int64_t needed, request_bytes(groups, limits));
  if (needed <= memory_bytes) return {};
  TRY(const int64_t longest, longest_request(groups, limits, memory_bytes));
  std::string remedy = "give more memory";
  if (longest > 0) remedy += fmt::format(" or lower max model len to {}, which fits", longest);
  return error(Code::exhausted,
               "max model len {}: one request needs {:.2f} GiB of KV cache, there are {:.2f} GiB; "
               "{}",
               limits.max_model_len, gib(needed), gib(memory_bytes), remedy);
}

Result<UniformCapacity> uniform_capacity(const UniformLayout& layout, const UniformLimits& limits) {
  UniformCapacity capacity;
  int64_t total = 0;
  for (const UniformGroup& group : layout.groups) {
    TRY(const int64_t blocks, request_blocks(group, limits));
    capacity.blocks_per_request.push_back(blocks);
    total = capped_add(total, blocks);
  }
  if (total == 0) return capacity;
  // In doubles and in this order, as the reference computes what it prints.
  capacity.max_concurrency = static_cast<double>(layout.n_blocks) / static_cast<double>(total);
  const double tokens = capacity.max_concurrency * static_cast<double>(limits.max_model_len);
  capacity.kv_tokens = tokens < 9e18 ? static_cast<int64_t>(tokens) : kCap;
  return capacity;
}

Result<UniformGrain> uniform_grain(std::span<const UniformGroup> groups,
                                   const UniformOptions& options) {
  if (groups.size() <= 1) {
    // The flag's block size, even where the group's own is another: so the reference.
    const int64_t tokens = options.cache_block_tokens * options.context_ranks;
    return UniformGrain{tokens, tokens};
  }
  UniformGrain grain{1, 0};
  std::string sizes;
  bool coarse = !options.prefix_caching;
  for (const UniformGroup& group : groups) {
    const bool attends = group.spec.attends();
    const int64_t tokens = group.spec.block_tokens * (attends ? options.context_ranks : 1);
    coarse |= !attends && tokens != options.cache_block_tokens;
    grain.hash_tokens = std::gcd(grain.hash_tokens, tokens);
    if (__builtin_mul_overflow(grain.schedule_tokens / std::gcd(grain.schedule_tokens, tokens),
                               tokens, &grain.schedule_tokens)) {
      return error(Code::exhausted, "block sizes of {} groups have no common multiple below 2^63",
                   groups.size());
    }
    sizes += fmt::format("{}{}", sizes.empty() ? "" : ", ", tokens);
  }
  if (coarse) grain.hash_tokens = grain.schedule_tokens;
  if (coarse || !options.prefix_match_unit) return grain;
  // It divides every block exactly if it divides their greatest common divisor.
  if (*options.prefix_match_unit < 1 || grain.hash_tokens % *options.prefix_match_unit != 0) {
    return invalid("Invalid prefix_match_unit={}: it does not divide every group's block size=[{}]",
                   *options.prefix_match_unit, sizes);
  }
  grain.hash_tokens = *options.prefix_match_unit;
  return grain;
}

}  // namespace ashlar
