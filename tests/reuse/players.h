#pragma once

// The two caches in play: this program's, and the reference's rules over the uniform layout.

#include <array>

#include "kv/cache.h"
#include "kv/plan_uniform.h"
#include "play.h"
#include "pool_cache.h"

namespace ashlar::reuse {

// Books only: copies are dropped, no page is touched.
class CachePlayer final : public Player {
 public:
  explicit CachePlayer(Cache cache) : cache_(std::move(cache)) {}
  std::optional<Start> begin(size_t slot, std::span<const int32_t> tokens,
                             std::span<const int32_t> marks) override;
  std::optional<int32_t> step(size_t slot, std::span<const int32_t> tokens, int32_t end) override;
  void end(size_t slot) override;
  const Cache& cache() const { return cache_; }

 private:
  Cache cache_;
  std::array<Tables, kMaxRunning> tables_;
};

// Options of the pool for a layout that uniform_plan made for steps of kStepTokens.
PoolOptions pool_options(const UniformPlan& plan, int32_t max_model_len);

class PoolPlayer final : public Player {
 public:
  explicit PoolPlayer(PoolOptions options) : cache_(std::move(options)) {}
  void begin_step() override { cache_.begin_step(); }
  std::optional<Start> begin(size_t slot, std::span<const int32_t> tokens,
                             std::span<const int32_t> marks) override;
  std::optional<int32_t> step(size_t slot, std::span<const int32_t> tokens, int32_t end) override;
  void end(size_t slot) override;

 private:
  PoolCache cache_;
  std::array<PoolRequest, kMaxRunning> requests_;
};

}  // namespace ashlar::reuse
