#pragma once

// Cache groups: the layers of a model that share a table, because they keep the same tokens (kind,
// window) in the same shape. Derived from the layers, in order of first appearance; a model of k
// geometries has k groups, and no group is cut to match another's count.

#include <vector>

#include "spec/model.h"
#include "tensor/dtype.h"

namespace ashlar {

// full and latent keep every token; window the last ones; chunk those of the current chunk; state
// no tokens but one state per layer.
enum class LayerKind : uint8_t { full, window, chunk, latent, state };
constexpr int kLayerKinds = 5;

const char* name(LayerKind kind);

struct CacheGroup {
  LayerKind kind = LayerKind::full;
  std::vector<int32_t> layers;  // indices into ModelSpec::layers, ascending
  int32_t kv_heads = 0;
  int32_t k_dim = 0;  // latent: the whole row, of which V is a part
  int32_t v_dim = 0;
  int32_t window = 0;        // tokens kept for the next query; 0: all
  int32_t chunk = 0;         // tokens that share a chunk; 0: all
  int64_t state_bytes = 0;   // one layer's state
  int32_t page_tokens = 16;  // of a state group: at which its snapshots may lie
  DType dtype = DType::bf16;
  // Per token and layer beside the elements of K and V: scales, and a part kept wider than dtype.
  int32_t extra_bytes = 0;
  bool token_scales = false;  // the extra bytes are scales, which follow V (PagedView)
  // Layers that share tables may differ in shape: one group of a single layer for each of `layers`,
  // which says its shape, dtype and extra bytes; what is kept, and for how long, this group says.
  // Empty: every layer is as the group says.
  std::vector<CacheGroup> rows;

  const CacheGroup& row(int64_t i) const {
    return rows.empty() ? *this : rows[static_cast<size_t>(i)];
  }
  int64_t n_layers() const { return static_cast<int64_t>(layers.size()); }
  bool has_tokens() const { return kind != LayerKind::state; }
  // K of one layer for one page; V follows it, and the next layer follows V.
  int64_t k_bytes() const { return int64_t{kv_heads} * page_tokens * k_dim * size_of(dtype); }
  int64_t v_bytes() const { return int64_t{kv_heads} * page_tokens * v_dim * size_of(dtype); }
  // One layer's part of a page; of a state group the page itself. Of layers that differ: their
  // row's.
  int64_t layer_bytes() const {
    return has_tokens() ? k_bytes() + v_bytes() + int64_t{extra_bytes} * page_tokens : state_bytes;
  }
  // Bytes of one token in all layers of the group; 0 for states, which no token adds to.
  int64_t token_bytes() const { return has_tokens() ? page_data_bytes() / page_tokens : 0; }
  // Bytes that hold data in one page, and the page's size in the arena (whole granules). A page is
  // page_tokens tokens of all layers, or the state of one layer.
  int64_t page_data_bytes() const;
  int64_t page_bytes() const;
};

struct CacheFormat {
  DType dtype = DType::bf16;  // of K, V and latents; states have their own
  int32_t page_tokens = 16;   // in [1, 1024], checked by the caller's flag
  int32_t ranks = 1;          // tensor-parallel size; the groups are one rank's
  // Latent rows as 8-bit floats with a scale per 128 and the rotated part in bf16 ("fp8_ds_mla").
  bool packed_latent = false;
  // 8-bit K and V with a scale (f32) for each token of a head, of K and of V ("per token and
  // head").
  bool token_scales = false;
  // Layers that keep skip_dtype instead, in any order: groups of their own.
  std::vector<int32_t> skip_layers;
  DType skip_dtype = DType::bf16;
};

// What each page must hold. KV heads are divided among ranks, or replicated when ranks exceed them;
// latents are whole on every rank. invalid when heads and ranks do not divide, for layers to skip
// that hold no tokens, and for token scales that would lie unaligned; unsupported for packed_latent
// without latents.
Result<std::vector<CacheGroup>> cache_groups(const ModelSpec& model, const CacheFormat& format);

// Those of a target and of the draft that runs beside it: groups of their own, whose layers are
// numbered after the target's.
Result<std::vector<CacheGroup>> cache_groups(const ModelSpec& model, const ModelSpec& draft,
                                             const CacheFormat& format);

// What of a target's format holds for its draft: not how latents are packed, nor which of the
// target's layers keep another type.
CacheFormat draft_format(CacheFormat format);

// The same of one rank, where nothing can fail.
std::vector<CacheGroup> cache_groups(const ModelSpec& model, DType dtype, int32_t page_tokens);

}  // namespace ashlar
