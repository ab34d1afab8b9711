#include "kv/uniform_cache.h"

#include <algorithm>
#include <map>

#include "base/checked.h"
#include "tensor/paged.h"

namespace ashlar {
namespace {

// So that sums of a few blocks stay in 32 bits.
constexpr int64_t kMaxBlockTokens = int64_t{1} << 28;

using Rows = std::map<std::string, CacheGroup>;

// Each row of uniform_layers() as a group of that one layer.
Result<Rows> groups_by_name(std::span<const PlannedModel> models) {
  Rows rows;
  int32_t first = 0;  // of the model's layers
  for (size_t m = 0; m < models.size(); ++m) {
    TRY(const auto groups, cache_groups(*models[m].spec, models[m].format));
    std::map<int32_t, size_t> n_rows;  // of a layer
    for (const CacheGroup& group : groups) {
      for (const int32_t layer : group.layers) {
        CacheGroup& row = rows[uniform_layer_name(m, layer, n_rows[layer]++)];
        row = group;
        row.layers = {first + layer};
      }
    }
    first += static_cast<int32_t>(models[m].spec->layers.size());
  }
  return rows;
}

const CacheGroup& row_of(const Rows& rows, const std::string& layer) {
  const auto row = rows.find(layer);
  CHECK(row != rows.end(), "{} is no layer of the models", layer);
  return row->second;
}

bool same_shape(const CacheGroup& a, const CacheGroup& b) {
  return a.kv_heads == b.kv_heads && a.k_dim == b.k_dim && a.v_dim == b.v_dim &&
         a.extra_bytes == b.extra_bytes && a.dtype == b.dtype && a.state_bytes == b.state_bytes;
}

// 8-bit rows of odd length would put what is behind them between the bytes of an element.
Status check_aligned(const std::string& layer, const CacheGroup& row, int64_t offset) {
  const int64_t unit = row.token_scales ? 4 : size_of(row.dtype);
  if (offset % unit == 0) return {};
  return unsupported(
      "{}: its part of a block begins at byte {}, and its elements need a multiple of {}; choose a "
      "--block-size that is one",
      layer, offset, unit);
}

// Layers of one group, each at its place in a block. A mixed group's pages follow one another, each
// as large as its layers need.
Status add_layers(const UniformGroup& uniform, const Rows& rows, CacheGroup* group,
                  GroupLayout* place) {
  int64_t begin = 0;  // of a pack's page
  for (size_t pack = 0; pack < uniform.packs.size(); ++pack) {
    int64_t offset = begin;
    for (const std::string& name : uniform.packs[pack]) {
      CacheGroup row = row_of(rows, name);
      row.page_tokens = group->page_tokens;
      if (!uniform.mixed() && !same_shape(row, *group)) {
        return unsupported(
            "{} and {}: rows of {} and {} bytes a block in one group, whose pages are as large as "
            "the first one's; use --layout arena",
            uniform.packs[0][0], name, group->layer_bytes(), row.layer_bytes());
      }
      TRY_STATUS(check_aligned(name, row, offset));
      group->layers.push_back(row.layers[0]);
      place->layer_offsets.push_back(offset);
      offset += row.layer_bytes();
      if (uniform.mixed()) group->rows.push_back(std::move(row));
    }
    begin += page_bytes(uniform.mixed() ? uniform.members[pack].spec : uniform.spec);
  }
  place->page_bytes = round_up(begin, kGranuleBytes);
  return {};
}

// A group of the reference with its place in a block.
Status add_group(const UniformGroup& uniform, const Rows& rows, CacheLayout* layout) {
  CacheGroup group = row_of(rows, uniform.packs[0][0]);
  group.layers.clear();
  if (uniform.spec.block_tokens > kMaxBlockTokens) {
    return unsupported("{}: a block of {} tokens; at most {}; choose a shorter --block-size",
                       uniform.packs[0][0], uniform.spec.block_tokens, kMaxBlockTokens);
  }
  group.page_tokens = static_cast<int32_t>(uniform.spec.block_tokens);
  GroupLayout place{.pages_per_slab = 1};
  TRY_STATUS(add_layers(uniform, rows, &group, &place));
  if (!group.has_tokens()) {  // a page is one layer's, and a block is leased for all of them
    place.page_bytes = round_up(page_bytes(uniform.spec), kGranuleBytes);
    place.pages_per_slab = static_cast<int32_t>(group.n_layers());
    place.layer_offsets.clear();
  }
  place.page_data_bytes = group.page_data_bytes();
  layout->arena.slab_bytes =
      std::max(layout->arena.slab_bytes, place.page_bytes * place.pages_per_slab);
  layout->groups.push_back(std::move(group));
  layout->arena.groups.push_back(std::move(place));
  return {};
}

}  // namespace

Result<CacheLayout> uniform_cache_layout(std::span<const PlannedModel> models,
                                         const UniformPlanOptions& options) {
  TRY(std::vector<UniformLayer> layers, uniform_layers(models, options));
  UniformOptions pool = uniform_options(layers, options);
  // A request that is too long is refused when it comes, not here.
  pool.max_model_len = std::max(1, models[0].spec->max_positions);
  pool.fit_max_model_len = true;
  TRY(const UniformLayout uniform, uniform_layout(std::move(layers), options.memory_bytes, pool));
  TRY(const auto rows, groups_by_name(models));
  CacheLayout layout;
  layout.arena.name = "uniform";
  layout.arena.slab_bytes = round_up(block_bytes(uniform.groups), kGranuleBytes);
  for (const UniformGroup& group : uniform.groups) {
    TRY_STATUS(add_group(group, rows, &layout));
  }
  layout.arena.n_slabs = std::min(uniform.n_blocks, options.memory_bytes / layout.arena.slab_bytes);
  if (layout.arena.arena_bytes() > (kGranuleBytes << 32)) {
    return unsupported("cache memory {}: one pool addresses at most {}",
                       human_bytes(static_cast<uint64_t>(layout.arena.arena_bytes())),
                       human_bytes(kGranuleBytes << 32));
  }
  return layout;
}

}  // namespace ashlar
