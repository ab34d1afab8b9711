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
    WriteStats of_group;
    const CacheGroup* row = nullptr;  // an 8-bit one
    for (int64_t i = 0; group.has_tokens() && i < group.n_layers(); ++i) {
      const auto layer = static_cast<size_t>(group.layers[static_cast<size_t>(i)]);
      if (!is_f8(group.row(i).dtype)) continue;
      CHECK(layer < stats.size(), "layer {} was not counted", layer);
      row = &group.row(i);
      all.values += stats[layer].values;
      all.clipped += stats[layer].clipped;
      of_group.largest_k = std::max(of_group.largest_k, stats[layer].largest_k);
      of_group.largest_v = std::max(of_group.largest_v, stats[layer].largest_v);
    }
    if (row == nullptr) continue;
    dtype = fmt::format("{} (up to {:g})", name(row->dtype), f8_format(row->dtype).largest_value());
    largest += fmt::format("{} {} {:.4g}", largest.empty() ? "" : ",", name(group.kind),
                           of_group.largest_k);
    if (row->v_dim > 0) largest += fmt::format(" and {:.4g}", of_group.largest_v);
  }
  if (dtype.empty() || all.values == 0) return;
  log_warning(
      "the {} cache has no scales: {:.4g} % of the first {} tokens' values were clipped; largest K "
      "and V:{}; give scales with --kv-scales (ashlar calibrate makes them)",
      dtype, 100.0 * static_cast<double>(all.clipped) / static_cast<double>(all.values),
      model_.counted_tokens(), largest);
}

}  // namespace ashlar
