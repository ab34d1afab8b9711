#include "kv/uniform_groups.h"

#include <algorithm>
#include <set>

#include "base/checked.h"
#include "kv/uniform_unify.h"

namespace ashlar {
namespace {

UniformGroup group_of(std::span<const LayerPack> packs, UniformSpec spec) {
  UniformGroup group{.spec = std::move(spec)};
  for (const LayerPack& pack : packs) group.packs.push_back(pack.layers);
  return group;
}

UniformGroup mixed_group(std::vector<LayerPack> packs) {
  UniformGroup group = group_of(packs, packs[0].spec);
  group.members = std::move(packs);
  return group;
}

// Packs of equal spec, in order of first appearance.
std::vector<std::vector<LayerPack>> buckets_of(std::span<const LayerPack> packs) {
  std::vector<std::vector<LayerPack>> buckets;
  for (const LayerPack& pack : packs) {
    const auto same = [&](const auto& bucket) { return bucket[0].spec == pack.spec; };
    auto bucket = std::find_if(buckets.begin(), buckets.end(), same);
    if (bucket == buckets.end()) bucket = buckets.insert(buckets.end(), {{}});
    bucket->push_back(pack);
  }
  return buckets;
}

// Every group has as many slots as the largest. The smallest bucket sets their number, unless the
// largest is less than half again as large: then a few empty slots cost less than many groups.
int64_t packs_per_group(std::span<const std::vector<LayerPack>> buckets) {
  size_t least = buckets[0].size();
  size_t most = least;
  for (const auto& bucket : buckets) {
    least = std::min(least, bucket.size());
    most = std::max(most, bucket.size());
  }
  return static_cast<int64_t>(2 * most < 3 * least ? most : least);
}

// REQUIRES equal pages. A bucket's packs are dealt round robin, so that each pipeline stage has a
// share of every group.
std::vector<UniformGroup> groups_of_equal_pages(std::span<const LayerPack> packs) {
  const auto buckets = buckets_of(packs);
  const int64_t size = packs_per_group(buckets);
  std::vector<UniformGroup> groups;
  for (const auto& bucket : buckets) {
    const int64_t n_groups = ceil_div(static_cast<int64_t>(bucket.size()), size);
    for (int64_t g = 0; g < n_groups; ++g) {
      UniformGroup group{.spec = bucket[0].spec};
      for (auto i = static_cast<size_t>(g); i < bucket.size(); i += static_cast<size_t>(n_groups)) {
        group.packs.push_back(bucket[i].layers);
      }
      groups.push_back(std::move(group));
    }
  }
  return groups;
}

// Where pages cannot be made equal: latent layers beside window layers (and no chunk) may still
// share one mixed group in which windows keep every token. False when this does not apply.
bool keep_all_tokens(std::vector<LayerPack>* packs) {
  bool latent = false;
  bool window = false;
  for (const LayerPack& pack : *packs) {
    if (pack.spec.kind == UniformKind::chunk) return false;
    latent |= pack.spec.kind == UniformKind::latent;
    window |= pack.spec.kind == UniformKind::window;
  }
  if (!latent || !window) return false;
  auto promoted = promote_local(*packs);
  if (!promoted || !same_tokens(*promoted)) return false;
  *packs = *std::move(promoted);
  return true;
}

}  // namespace

int64_t page_bytes(const UniformGroup& group) {
  if (!group.mixed()) return page_bytes(group.spec);
  int64_t bytes = 0;
  for (const LayerPack& member : group.members) bytes += page_bytes(member.spec);
  return bytes;
}

int64_t page_data_bytes(const UniformGroup& group) {
  if (!group.mixed()) return page_data_bytes(group.spec);
  int64_t bytes = 0;
  for (const LayerPack& member : group.members) bytes += page_data_bytes(member.spec);
  return bytes;
}

Result<int64_t> request_blocks(const UniformGroup& group, const UniformLimits& limits) {
  if (!group.mixed()) return request_blocks(group.spec, limits);
  int64_t most = 0;
  for (const LayerPack& member : group.members) {
    TRY(const int64_t blocks, request_blocks(member.spec, limits));
    most = std::max(most, blocks);
  }
  return most;
}

std::vector<LayerPack> pack_layers(std::span<const UniformLayer> layers, int64_t n) {
  std::vector<LayerPack> packs;
  std::ptrdiff_t open = -1;  // the pack that the next attention layer of its spec joins
  UniformSpec open_spec;
  for (const UniformLayer& layer : layers) {
    if (n == 1 || !layer.spec.attends()) {
      packs.push_back({.layers = {layer.name}, .spec = layer.spec});
      continue;
    }
    if (open < 0 || open_spec != layer.spec ||
        std::ssize(packs[static_cast<size_t>(open)].layers) == n) {
      open = std::ssize(packs);
      open_spec = layer.spec;
      packs.push_back({.layers = {}, .spec = layer.spec});
      packs.back().spec.pack = n;
      packs.back().spec.padded_page_bytes *= n;
    }
    packs[static_cast<size_t>(open)].layers.push_back(layer.name);
  }
  return packs;
}

Result<std::vector<UniformGroup>> uniform_groups(std::vector<LayerPack> packs,
                                                 const GroupingOptions& options) {
  if (packs.empty()) return std::vector<UniformGroup>();
  if (options.disable_hybrid) {
    TRY(packs, promote_local(std::move(packs)));
  }
  TRY(std::optional<UniformSpec> merged, merged_spec(packs));
  if (merged) return std::vector{group_of(packs, *std::move(merged))};
  if (same_tokens(packs)) return std::vector{mixed_group(std::move(packs))};
  auto unified = unify_pages(packs);
  if (unified) return groups_of_equal_pages(*unified);
  if (unified.error().code == Code::unsupported && keep_all_tokens(&packs)) {
    return std::vector{mixed_group(std::move(packs))};
  }
  return std::move(unified).error();
}

std::vector<UniformGroup> project_groups(std::span<const UniformGroup> groups,
                                         std::span<const LayerPack> worker) {
  std::set<std::vector<std::string>> present;
  for (const LayerPack& pack : worker) present.insert(pack.layers);
  std::vector<UniformGroup> projected(groups.begin(), groups.end());
  for (UniformGroup& group : projected) {
    std::erase_if(group.packs, [&](const auto& layers) { return !present.contains(layers); });
    if (group.packs.empty()) continue;  // a mixed group without layers keeps its row, too
    std::erase_if(group.members, [&](const auto& pack) { return !present.contains(pack.layers); });
  }
  return projected;
}

}  // namespace ashlar
