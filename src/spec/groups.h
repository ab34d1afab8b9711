#pragma once

// Cache groups: the layers of a model that share a table, because they keep the same tokens (kind,
// window) in the same shape. Derived from the layers, in order of first appearance; a model of k
// geometries has k groups, and no group is cut to match another's count. Heads, widths and state
// bytes are those of one tensor-parallel rank.

#include <vector>

#include "spec/model.h"
#include "tensor/dtype.h"

namespace ashlar {

// What a layer remembers: every token; the last `window`; its chunk of `chunk` tokens up to the
// query; every token as one latent row; a state of fixed size.
enum class LayerKind : uint8_t { full, window, chunk, latent, state };
constexpr int kLayerKinds = 5;

const char* name(LayerKind kind);

struct CacheGroup {
  LayerKind kind = LayerKind::full;
  std::vector<int32_t> layers;  // indices into ModelSpec::layers, ascending
  int32_t kv_heads = 0;         // latent: 1
  int32_t k_dim = 0;            // latent: the latent and its rotary part
  int32_t v_dim = 0;            // latent: 0, the values are part of the latent
  int32_t window = 0;           // window: tokens kept for the next query; 0: all
  int32_t chunk = 0;            // chunk: tokens of a chunk
  int64_t state_bytes = 0;  // state: of one layer, which is one page; a sequence has one per layer
  int32_t page_tokens = 16;
  DType dtype = DType::bf16;

  int64_t n_layers() const { return static_cast<int64_t>(layers.size()); }
  // K of one layer for one page; V follows it, and the next layer follows V.
  int64_t k_bytes() const { return int64_t{kv_heads} * page_tokens * k_dim * size_of(dtype); }
  int64_t v_bytes() const { return int64_t{kv_heads} * page_tokens * v_dim * size_of(dtype); }
  // Bytes of one token in all layers of the group.
  int64_t token_bytes() const { return n_layers() * (k_bytes() + v_bytes()) / page_tokens; }
  // Bytes that hold data in one page, and the page's size in the arena (whole granules).
  int64_t page_data_bytes() const {
    return kind == LayerKind::state ? state_bytes : n_layers() * (k_bytes() + v_bytes());
  }
  int64_t page_bytes() const;
};

// What each page must hold; `page_tokens` in [1, 1024] is checked by the caller's flag.
std::vector<CacheGroup> cache_groups(const ModelSpec& model, DType dtype, int32_t page_tokens);

}  // namespace ashlar
