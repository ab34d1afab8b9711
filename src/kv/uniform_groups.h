#pragma once

// Grouping of the uniform layout: layers become groups whose blocks all have the same bytes, so
// that one pool of blocks serves every group. Follows vLLM's V1 KV cache grouping, answers and
// refusals alike: pages are made equal by growing blocks, by padding where kernels allow it, or not
// at all; the layers of each kind are then dealt into groups of one size. Pure functions.
//
// What the reference raises travels as the error's code: unsupported is its NotImplementedError
// (pages cannot be made equal), invalid and exhausted its ValueError, not_found its AssertionError
// (it has no answer: its own check fails).

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kv/uniform_layer.h"

namespace ashlar {

struct UniformLayer {
  std::string name;
  UniformSpec spec;
};

// The layers that share one page: one, or up to `spec.pack` attention layers.
struct LayerPack {
  std::vector<std::string> layers;
  UniformSpec spec;
};

struct UniformGroup {
  // The i-th pack of every group lives in tensor i.
  std::vector<std::vector<std::string>> packs;
  UniformSpec spec;  // of every pack; of a mixed group only kind and block_tokens hold
  // Mixed group: layers that keep the same tokens in different geometries, each with its own
  // tensor. Empty otherwise.
  std::vector<LayerPack> members;

  bool mixed() const { return !members.empty(); }
  int64_t n_packs() const { return static_cast<int64_t>(packs.size()); }
};

// Bytes of one block in one pack of the group; of a mixed group in all its members.
int64_t page_bytes(const UniformGroup& group);
// The same, data alone.
int64_t page_data_bytes(const UniformGroup& group);
// As request_blocks(spec): of a mixed group the most any member needs.
Result<int64_t> request_blocks(const UniformGroup& group, const UniformLimits& limits);

// Attention layers of equal spec, taken in order, `n` to a page; a short last pack leaves a hole.
// State layers between them do not break a run. n == 1: every layer alone.
std::vector<LayerPack> pack_layers(std::span<const UniformLayer> layers, int64_t n);

struct GroupingOptions {
  bool disable_hybrid = false;  // one group: window and chunk layers keep every token
};

// REQUIRES check_spec of every pack. No packs, no groups.
Result<std::vector<UniformGroup>> uniform_groups(std::vector<LayerPack> packs,
                                                 const GroupingOptions& options);

// The same groups with only the packs that `worker` has. Emptied groups stay, so that group numbers
// agree on all workers.
std::vector<UniformGroup> project_groups(std::span<const UniformGroup> groups,
                                         std::span<const LayerPack> worker);

}  // namespace ashlar
