// What an 8-bit cache without scales meets: said once, when enough tokens have been seen.

#include <algorithm>

#include "base/log.h"
#include "engine/engine.h"

namespace ashlar {

void Engine::tell_cache_range() {
  if (range_told_ || model_.counted_tokens() == 0) return;
  range_told_ = true;
  // Layers of a draft are numbered after the model's.
  std::vector<WriteStats> stats(model_.write_stats().begin(), model_.write_stats().end());
  if (const Model* draft = proposer_.draft())
    stats.insert(stats.end(), draft->write_stats().begin(), draft->write_stats().end());
  WriteStats all;
  std::string largest, dtype;
  for (const CacheGroup& group : cache_.groups()) {
    if (!group.has_tokens() || !is_f8(group.dtype)) continue;
    WriteStats of_group;
    for (const int32_t layer : group.layers) {
      CHECK(static_cast<size_t>(layer) < stats.size(), "layer {} was not counted", layer);
      const WriteStats& met = stats[static_cast<size_t>(layer)];
      all.values += met.values;
      all.clipped += met.clipped;
      of_group.largest_k = std::max(of_group.largest_k, met.largest_k);
      of_group.largest_v = std::max(of_group.largest_v, met.largest_v);
    }
    dtype =
        fmt::format("{} (up to {:g})", name(group.dtype), f8_format(group.dtype).largest_value());
    largest += fmt::format("{} {} {:.4g}", largest.empty() ? "" : ",", name(group.kind),
                           of_group.largest_k);
    if (group.v_dim > 0) largest += fmt::format(" and {:.4g}", of_group.largest_v);
  }
  if (dtype.empty() || all.values == 0) return;
  log_warning(
      "the {} cache has no scales: {:.4g} % of the first {} tokens' values were clipped; largest K "
      "and V:{}; give scales with --kv-scales (ashlar calibrate makes them)",
      dtype, 100.0 * static_cast<double>(all.clipped) / static_cast<double>(all.values),
      model_.counted_tokens(), largest);
}

}  // namespace ashlar
