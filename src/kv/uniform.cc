#include "kv/uniform.h"

#include <algorithm>
#include <map>

#include "base/checked.h"
#include "kv/uniform_capacity.h"

namespace ashlar {
namespace {

// Numbers of requests stay below this; see uniform_layer.cc for those of layers.
constexpr int64_t kMaxTokens = int64_t{1} << 40;
constexpr int64_t kMaxMemoryBytes = int64_t{1} << 60;

Status check_option(const char* name, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) return {};
  return invalid("{} {} is outside {} to {}", name, value, low, high);
}

Status check_options(const UniformOptions& options) {
  TRY_STATUS(check_option("max model len", options.max_model_len, 1, kMaxTokens));
  TRY_STATUS(check_option("tokens in flight", options.max_in_flight_tokens, 0, kMaxTokens));
  TRY_STATUS(check_option("block size", options.cache_block_tokens, 1, int64_t{1} << 31));
  TRY_STATUS(check_option("decode context parallel size", options.context_ranks, 1, 1 << 16));
  TRY_STATUS(check_option("attention pack size", options.pack, 1, 1 << 16));
  TRY_STATUS(check_option("block count", options.n_blocks.value_or(0), 0, kMaxTokens));
  return {};
}

// The worker's layers as packs, each in range.
Result<std::vector<LayerPack>> checked_packs(const UniformWorker& worker, int64_t n) {
  TRY_STATUS(
      check_option("KV cache memory", worker.memory_bytes, -kMaxMemoryBytes, kMaxMemoryBytes));
  for (const UniformLayer& layer : worker.layers) TRY_STATUS(check_spec(layer.spec, layer.name));
  std::vector<LayerPack> packs = pack_layers(worker.layers, n);
  for (const LayerPack& pack : packs) TRY_STATUS(check_spec(pack.spec, pack.layers[0]));
  return packs;
}

// All workers' packs in order of first appearance.
Result<std::vector<LayerPack>> all_packs(std::span<const std::vector<LayerPack>> workers) {
  std::vector<LayerPack> all;
  std::map<std::vector<std::string>, size_t> known;
  for (const std::vector<LayerPack>& packs : workers) {
    for (const LayerPack& pack : packs) {
      const auto [at, added] = known.emplace(pack.layers, all.size());
      if (added) {
        all.push_back(pack);
      } else if (all[at->second].spec != pack.spec) {
        return error(Code::not_found, "layer {}: two workers state different cache rows",
                     excerpt(pack.layers[0]));
      }
    }
  }
  return all;
}

int64_t largest_group(std::span<const UniformGroup> groups) {
  int64_t most = 0;
  for (const UniformGroup& group : groups) most = std::max(most, group.n_packs());
  return most;
}

// Tensor i belongs to the i-th pack of every group; a mixed group's packs have one each.
void set_tensors(UniformLayout* layout) {
  const std::span<const UniformGroup> groups = layout->groups;
  layout->tensors.clear();
  if (groups.empty()) return;
  const bool mixed = groups.size() == 1 && groups[0].mixed();
  for (int64_t i = 0; i < largest_group(groups); ++i) {
    const auto at = static_cast<size_t>(i);
    const int64_t page =
        mixed ? page_bytes(groups[0].members[at].spec) : page_bytes(groups[0].spec);
    UniformTensor tensor{.size_bytes = page * layout->n_blocks};
    for (const UniformGroup& group : groups) {
      if (i >= group.n_packs()) continue;
      const auto& layers = group.packs[at];
      tensor.shared_by.insert(tensor.shared_by.end(), layers.begin(), layers.end());
    }
    layout->tensors.push_back(std::move(tensor));
  }
}

// What the pool may take on this worker: its memory, or what the forced block count needs.
Result<int64_t> pool_bytes(const UniformWorker& worker, std::span<const UniformGroup> groups,
                           const UniformOptions& options) {
  if (groups.empty() || !options.n_blocks) return worker.memory_bytes;
  int64_t bytes = 0;
  if (!__builtin_mul_overflow(*options.n_blocks, block_bytes(groups), &bytes) &&
      bytes <= kMaxMemoryBytes) {
    return bytes;
  }
  return invalid("block count {}: blocks of {} bytes pass the limit of {} bytes", *options.n_blocks,
                 block_bytes(groups), kMaxMemoryBytes);
}

Result<int64_t> fitted_length(std::span<const UniformLayout> layouts,
                              std::span<const int64_t> memory, const UniformLimits& limits) {
  int64_t length = limits.max_model_len;
  for (size_t w = 0; w < layouts.size(); ++w) {
    if (layouts[w].groups.empty()) continue;
    TRY(const int64_t fits, longest_request(layouts[w].groups, limits, memory[w]));
    length = std::min(length, fits);
  }
  if (length > 0) return length;
  return error(Code::exhausted,
               "max model len cannot be fitted: not one token fits in the KV cache; give more "
               "memory");
}

// One block count for all workers, the least of what each has room for.
Status set_blocks(std::span<const int64_t> memory, std::span<UniformLayout> layouts) {
  int64_t least = -1;
  for (size_t w = 0; w < layouts.size(); ++w) {
    int64_t n_blocks = 1;  // without a cache the pool still has its null block
    if (!layouts[w].groups.empty()) {
      const int64_t bytes = block_bytes(layouts[w].groups);
      if (bytes == 0) {
        return error(Code::not_found, "worker {} has no layer of the model's {} cache groups", w,
                     layouts[w].groups.size());
      }
      n_blocks = memory[w] / bytes;
    }
    least = least < 0 ? n_blocks : std::min(least, n_blocks);
  }
  for (UniformLayout& layout : layouts) {
    layout.n_blocks = least;
    set_tensors(&layout);
  }
  return {};
}

}  // namespace

int64_t block_bytes(std::span<const UniformGroup> groups) {
  CHECK(!groups.empty());
  if (groups.size() == 1 && groups[0].mixed()) return page_bytes(groups[0]);
  return largest_group(groups) * page_bytes(groups[0].spec);
}

Result<std::vector<UniformLayout>> uniform_layouts(std::span<const UniformWorker> workers,
                                                   const UniformOptions& options) {
  TRY_STATUS(check_options(options));
  std::vector<std::vector<LayerPack>> packs(workers.size());
  for (size_t w = 0; w < workers.size(); ++w) {
    TRY(packs[w], checked_packs(workers[w], options.pack));
  }
  TRY(std::vector<LayerPack> all, all_packs(packs));
  TRY(const std::vector<UniformGroup> groups,
      uniform_groups(std::move(all), {.disable_hybrid = options.disable_hybrid}));

  std::vector<UniformLayout> layouts(workers.size());
  std::vector<int64_t> memory(workers.size());
  for (size_t w = 0; w < workers.size(); ++w) {
    layouts[w].groups = project_groups(groups, packs[w]);
    TRY(memory[w], pool_bytes(workers[w], layouts[w].groups, options));
  }
  UniformLimits limits = options.limits();
  if (options.fit_max_model_len) {
    TRY(limits.max_model_len, fitted_length(layouts, memory, limits));
  }
  for (size_t w = 0; w < workers.size(); ++w) {
    layouts[w].max_model_len = limits.max_model_len;
    if (layouts[w].groups.empty()) continue;
    TRY_STATUS(check_memory(layouts[w].groups, limits, memory[w]));
  }
  TRY_STATUS(set_blocks(memory, layouts));
  return layouts;
}

Result<UniformLayout> uniform_layout(std::vector<UniformLayer> layers, int64_t memory_bytes,
                                     const UniformOptions& options) {
  const UniformWorker worker{.layers = std::move(layers), .memory_bytes = memory_bytes};
  TRY(std::vector<UniformLayout> layouts, uniform_layouts({&worker, 1}, options));
  return std::move(layouts[0]);
}

std::string to_text(const UniformLayout& layout) {
  std::string text = fmt::format("{} blocks, {} tensors\n", layout.n_blocks, layout.tensors.size());
  if (layout.groups.empty()) return text;
  const int64_t block = block_bytes(layout.groups);
  for (const UniformGroup& group : layout.groups) {
    const int64_t packs = group.mixed() ? 1 : group.n_packs();
    const int64_t unused = block - packs * page_data_bytes(group);
    text += fmt::format(
        "{:6} {:4} packs  block {:5} tokens  page {:10} bytes  unused {:10} of {} bytes a block\n",
        name(group.spec.kind), group.n_packs(), group.spec.block_tokens, page_bytes(group), unused,
        block);
  }
  return text;
}

}  // namespace ashlar
