#include "mixes.h"

#include <algorithm>

namespace ashlar::sim {
namespace {

// Every width keeps a token's bytes a multiple of 8 and 16 at least: tags stand at both ends.
CacheGroup tokens(LayerKind kind, int32_t n_layers, int32_t kv_heads, int32_t k_dim, int32_t v_dim,
                  int32_t reach = 0) {
  CacheGroup g{
      .kind = kind, .kv_heads = kv_heads, .k_dim = k_dim, .v_dim = v_dim, .page_tokens = 1};
  g.layers.resize(static_cast<size_t>(n_layers));
  (kind == LayerKind::chunk ? g.chunk : g.window) = reach;
  return g;
}

CacheGroup states(int32_t n_layers, int64_t state_bytes) {
  CacheGroup g{.kind = LayerKind::state, .state_bytes = state_bytes, .page_tokens = 1};
  g.layers.resize(static_cast<size_t>(n_layers));
  return g;
}

// Pages so many times as long as the mix's.
CacheGroup times(int32_t factor, CacheGroup group) {
  group.page_tokens = factor;
  return group;
}

std::vector<Mix> one_page_length() {
  using enum LayerKind;
  return {
      {"full", {tokens(full, 2, 1, 8, 8)}},
      {"window", {tokens(window, 2, 1, 8, 8, 24)}},
      {"full+window", {tokens(full, 2, 1, 12, 8), tokens(window, 5, 2, 12, 8, 20)}},
      {"full+window+draft",
       {tokens(full, 2, 1, 12, 8), tokens(window, 5, 2, 12, 8, 33), tokens(full, 1, 1, 8, 8)}},
      {"full+window+window_draft",
       {tokens(full, 2, 1, 12, 8), tokens(window, 4, 2, 12, 8, 16),
        tokens(window, 1, 1, 8, 8, 70)}},
      {"full+chunk", {tokens(full, 1, 1, 8, 8), tokens(chunk, 3, 1, 8, 8, 64)}},
      {"full+odd_chunk", {tokens(full, 1, 1, 8, 8), tokens(chunk, 3, 1, 8, 8, 40)}},
      {"full+window1+chunk",
       {tokens(full, 1, 1, 8, 8), tokens(window, 1, 1, 8, 8, 1), tokens(chunk, 3, 1, 8, 8, 24)}},
      {"latent", {tokens(latent, 3, 1, 36, 0)}},
      {"latent+state", {tokens(latent, 1, 1, 36, 0), states(3, 1000)}},
      {"full+state", {tokens(full, 1, 2, 8, 8), states(3, 2500)}},
      {"full+state+state", {tokens(full, 1, 2, 8, 8), states(2, 1800), states(2, 400)}},
      {"full+window+state",
       {tokens(full, 1, 1, 8, 8), tokens(window, 2, 1, 8, 8, 20), states(2, 900)}},
      {"full+state+draft", {tokens(full, 1, 2, 8, 8), states(3, 700), tokens(full, 1, 1, 8, 8)}},
      {"state", {states(3, 600)}},
  };
}

std::vector<Mix> several_page_lengths() {
  using enum LayerKind;
  const auto pool = [](std::string name, std::vector<CacheGroup> groups) {
    return Mix{.name = std::move(name), .groups = std::move(groups), .equal_blocks = true};
  };
  return {
      {"full*2+window", {times(2, tokens(full, 2, 1, 12, 8)), tokens(window, 5, 2, 12, 8, 20)}},
      {"full+window*4", {tokens(full, 2, 1, 12, 8), times(4, tokens(window, 2, 1, 8, 8, 24))}},
      {"full*3+window*2+chunk",
       {times(3, tokens(full, 1, 1, 8, 8)), times(2, tokens(window, 2, 1, 12, 8, 33)),
        tokens(chunk, 2, 1, 8, 8, 24)}},
      {"full+state*2", {tokens(full, 1, 2, 8, 8), times(2, states(3, 700))}},
      // As the uniform layout deals them.
      pool("pool:full*2+window+window",
           {times(2, tokens(full, 2, 1, 12, 8)), tokens(window, 2, 2, 12, 8, 20),
            tokens(window, 1, 2, 12, 8, 20)}),
      pool("pool:full+window*2+window_draft",
           {tokens(full, 2, 2, 8, 8), times(2, tokens(window, 2, 1, 8, 8, 1)),
            times(2, tokens(window, 1, 1, 8, 8, 70))}),
      pool("pool:full+state+state", {tokens(full, 3, 2, 8, 8), states(3, 700), states(2, 700)}),
  };
}

// Memory for some 500 tokens in all groups, and three sequences' states.
std::vector<Mix> sized(std::vector<Mix> mixes, int32_t page_tokens) {
  for (Mix& mix : mixes) {
    mix.name += "/" + std::to_string(page_tokens);
    int64_t n_bytes = 0, n_blocks = 0, largest = 0;
    for (CacheGroup& group : mix.groups) {
      group.page_tokens *= page_tokens;
      const bool state = group.kind == LayerKind::state;
      const int64_t n = state ? 16 : 500 / group.page_tokens + 4;
      const int64_t block = group.page_bytes() * (state ? group.n_layers() : 1);
      n_bytes += n * block;
      n_blocks += n;
      largest = std::max(largest, block);
    }
    mix.memory_bytes = mix.equal_blocks ? n_blocks * largest : n_bytes;
    mix.options = {.slack_tokens = 4, .state_slots = 5, .snapshot_interval = 64};
  }
  return mixes;
}

}  // namespace

// A slab per block: as large as the largest page, or as a state of all layers of a group.
Result<CacheLayout> Mix::layout() const {
  if (!equal_blocks) return arena_cache_layout(groups, memory_bytes);
  CacheLayout pool{.groups = groups};
  for (const CacheGroup& group : groups) {
    GroupLayout place{.page_bytes = group.page_bytes(),
                      .page_data_bytes = group.page_data_bytes(),
                      .pages_per_slab = 1};
    if (!group.has_tokens()) place.pages_per_slab = static_cast<int32_t>(group.n_layers());
    for (int64_t i = 0; i < group.n_layers(); ++i)
      place.layer_offsets.push_back(i * group.layer_bytes());
    pool.arena.slab_bytes =
        std::max(pool.arena.slab_bytes, place.page_bytes * place.pages_per_slab);
    pool.arena.groups.push_back(std::move(place));
  }
  pool.arena.n_slabs = memory_bytes / pool.arena.slab_bytes;
  return pool;
}

std::vector<Mix> mixes(int32_t page_tokens) { return sized(one_page_length(), page_tokens); }

std::vector<Mix> skipping_mixes(int32_t page_tokens) {
  using enum LayerKind;
  return sized(
      {
          {"chunk", {tokens(chunk, 2, 1, 8, 8, 40)}},
          {"window1+chunk", {tokens(window, 1, 1, 8, 8, 1), tokens(chunk, 3, 1, 8, 8, 24)}},
      },
      page_tokens);
}

std::vector<Mix> uneven_mixes(int32_t page_tokens) {
  return sized(several_page_lengths(), page_tokens);
}

std::vector<Mix> all_mixes(int32_t page_tokens) {
  std::vector<Mix> all = mixes(page_tokens);
  for (Mix& mix : uneven_mixes(page_tokens)) all.push_back(std::move(mix));
  return all;
}

Mix mix_named(const std::string& name) {
  const size_t slash = name.find('/');
  if (slash == std::string::npos) return {};
  const int32_t page_tokens = std::atoi(name.c_str() + slash + 1);
  if (page_tokens < 1 || page_tokens > 1024) return {};
  for (const auto& list : {all_mixes(page_tokens), skipping_mixes(page_tokens)}) {
    for (const Mix& mix : list) {
      if (mix.name == name) return mix;
    }
  }
  return {};
}

}  // namespace ashlar::sim
