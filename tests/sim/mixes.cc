#include "mixes.h"

#include <algorithm>

namespace ashlar::sim {
namespace {

// Every width keeps a token's bytes a multiple of 8, where the fake device writes its tag.
CacheGroup tokens(LayerKind kind, int32_t n_layers, int32_t kv_heads, int32_t k_dim, int32_t v_dim,
                  int32_t reach = 0) {
  CacheGroup g{.kind = kind, .kv_heads = kv_heads, .k_dim = k_dim, .v_dim = v_dim};
  g.layers.resize(static_cast<size_t>(n_layers));
  (kind == LayerKind::chunk ? g.chunk : g.window) = reach;
  return g;
}

CacheGroup states(int32_t n_layers, int64_t state_bytes) {
  CacheGroup g{.kind = LayerKind::state, .state_bytes = state_bytes};
  g.layers.resize(static_cast<size_t>(n_layers));
  return g;
}

// Memory for some 500 tokens in all groups, and three sequences' states.
void size_all(int32_t page_tokens, std::vector<Mix>* mixes) {
  for (Mix& mix : *mixes) {
    mix.name += "/" + std::to_string(page_tokens);
    int64_t n_bytes = 0;
    for (CacheGroup& group : mix.groups) {
      group.page_tokens = page_tokens;
      const bool state = group.kind == LayerKind::state;
      n_bytes += group.page_bytes() * (state ? 16 * group.n_layers() : 500 / page_tokens + 4);
    }
    mix.memory_bytes = n_bytes;
    mix.options = {.slack_tokens = 4, .state_slots = 5, .snapshot_interval = 64};
  }
}

}  // namespace

std::vector<Mix> mixes(int32_t page_tokens) {
  using enum LayerKind;
  std::vector<Mix> out = {
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
  size_all(page_tokens, &out);
  return out;
}

std::vector<Mix> skipping_mixes(int32_t page_tokens) {
  using enum LayerKind;
  std::vector<Mix> out = {
      {"chunk", {tokens(chunk, 2, 1, 8, 8, 40)}},
      {"window1+chunk", {tokens(window, 1, 1, 8, 8, 1), tokens(chunk, 3, 1, 8, 8, 24)}},
  };
  size_all(page_tokens, &out);
  return out;
}

Mix mix_named(const std::string& name) {
  const size_t slash = name.find('/');
  if (slash == std::string::npos) return {};
  const int32_t page_tokens = std::atoi(name.c_str() + slash + 1);
  if (page_tokens < 1 || page_tokens > 1024) return {};
  for (const auto& list : {mixes(page_tokens), skipping_mixes(page_tokens)}) {
    for (const Mix& mix : list) {
      if (mix.name == name) return mix;
    }
  }
  return {};
}

}  // namespace ashlar::sim
