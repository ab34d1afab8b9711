#include "spec/groups.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <tuple>

#include "base/checked.h"
#include "tensor/paged.h"

namespace ashlar {
namespace {

// Elements that share one scale in packed latent rows and in 8-bit index keys.
constexpr int32_t kScaleSpan = 128;
constexpr int32_t kScaleBytes = 4;

// Heads of one rank: divided, or one of them on each of several ranks; 0: neither comes out even.
int32_t heads_per_rank(int32_t heads, int32_t ranks) {
  if (heads % ranks == 0) return heads / ranks;
  return ranks % heads == 0 ? 1 : 0;
}

CacheGroup attention_group(const AttentionSpec& a, const CacheFormat& format) {
  const LayerKind kind = a.window > 0  ? LayerKind::window
                         : a.chunk > 0 ? LayerKind::chunk
                                       : LayerKind::full;
  const int32_t kv_heads = heads_per_rank(a.kv_heads, format.ranks);
  return {.kind = kind,
          .kv_heads = kv_heads,
          .k_dim = a.k_dim,
          .v_dim = a.v_dim,
          .window = a.window,
          .chunk = a.chunk,
          .dtype = format.dtype,
          .extra_bytes = format.token_scales ? 2 * kv_heads * kScaleBytes : 0,
          .token_scales = format.token_scales};
}

CacheGroup latent_group(const LatentSpec& latent, const CacheFormat& format) {
  CacheGroup group{.kind = LayerKind::latent,
                   .kv_heads = 1,
                   .k_dim = latent.row_dim(),
                   .dtype = format.dtype,
                   .extra_bytes = format.token_scales ? kScaleBytes : 0,
                   .token_scales = format.token_scales};
  if (format.packed_latent) {
    const int32_t wider = static_cast<int32_t>(size_of(DType::bf16) - size_of(DType::f8e4m3));
    group.extra_bytes = latent.rope_dim * wider + latent.kv_lora / kScaleSpan * kScaleBytes;
  }
  return group;
}

CacheGroup index_group(const LatentSpec& latent, const CacheFormat& format) {
  CacheGroup group{
      .kind = LayerKind::latent, .kv_heads = 1, .k_dim = latent.index_dim, .dtype = format.dtype};
  if (is_f8(format.dtype)) {
    group.extra_bytes = static_cast<int32_t>(ceil_div(latent.index_dim, kScaleSpan)) * kScaleBytes;
  }
  return group;
}

CacheGroup state_group(const StateSpec& state, const CacheFormat& format) {
  return {
      .kind = LayerKind::state, .state_bytes = state.bytes(format.ranks), .dtype = format.dtype};
}

// The groups, built layer by layer.
struct Grouping {
  int32_t page_tokens = 0;
  std::vector<CacheGroup> groups;

  void add(CacheGroup row, size_t layer) {
    row.page_tokens = page_tokens;
    const auto key = [](const CacheGroup& g) {
      return std::tie(g.kind, g.kv_heads, g.k_dim, g.v_dim, g.window, g.chunk, g.state_bytes,
                      g.dtype, g.extra_bytes);
    };
    auto group = std::find_if(groups.begin(), groups.end(),
                              [&](const CacheGroup& g) { return key(g) == key(row); });
    if (group == groups.end()) group = groups.insert(groups.end(), std::move(row));
    group->layers.push_back(static_cast<int32_t>(layer));
  }
};

bool skips(const CacheFormat& format, size_t layer) {
  return std::find(format.skip_layers.begin(), format.skip_layers.end(),
                   static_cast<int32_t>(layer)) != format.skip_layers.end();
}

// States are of the model's type whatever the cache keeps of tokens.
CacheFormat layer_format(const CacheFormat& format, const Mixer& mixer, size_t layer) {
  CacheFormat own = format;
  if (format.packed_latent) own.dtype = DType::f8e4m3;
  if (skips(format, layer)) {
    own.dtype = format.skip_dtype;
    own.packed_latent = own.token_scales = false;
  }
  if (std::holds_alternative<StateSpec>(mixer) && is_f8(own.dtype)) own.dtype = format.skip_dtype;
  return own;
}

Status check_skipped(const ModelSpec& model, const CacheFormat& format) {
  const auto n_layers = static_cast<int32_t>(model.layers.size());
  for (const int32_t layer : format.skip_layers) {
    if (layer < 0 || layer >= n_layers) {
      return invalid("layers that skip the cache dtype: {} is none: the model has layers 0 to {}",
                     layer, n_layers - 1);
    }
    const Mixer& mixer = model.layers[static_cast<size_t>(layer)].mixer;
    if (!std::holds_alternative<AttentionSpec>(mixer) &&
        !std::holds_alternative<LatentSpec>(mixer)) {
      return invalid(
          "layers that skip the cache dtype: layer {} keeps no tokens, so no cache dtype touches "
          "it; leave it out",
          layer);
    }
  }
  return {};
}

// Scales of tokens are floats behind a page's K and V.
Status check_scales_aligned(const CacheGroup& group, size_t layer) {
  const int64_t bytes = group.k_bytes() + group.v_bytes();
  if (!group.token_scales || bytes % kScaleBytes == 0) return {};
  return invalid(
      "cache dtype fp8_per_token_head: {} tokens of layer {} are {} bytes, and scales need a "
      "multiple of {}: choose a block size that is a multiple of {}",
      group.page_tokens, layer, bytes, kScaleBytes, kScaleBytes);
}

Status check_divides(const ModelSpec& model, int32_t ranks) {
  for (size_t i = 0; i < model.layers.size(); ++i) {
    const Mixer& mixer = model.layers[i].mixer;
    int32_t heads = ranks, kv_heads = ranks;  // a layer without a mixer divides
    if (const auto* a = std::get_if<AttentionSpec>(&mixer))
      heads = a->heads, kv_heads = a->kv_heads;
    if (const auto* l = std::get_if<LatentSpec>(&mixer)) heads = l->heads;
    if (const auto* s = std::get_if<StateSpec>(&mixer)) {
      heads = s->heads;
      if (s->key_heads > 0) kv_heads = s->key_heads;
    }
    if (heads % ranks != 0 || heads_per_rank(kv_heads, ranks) == 0) {
      return invalid("tensor parallel size {}: layer {} has {} heads and {} shared heads: {}",
                     ranks, i, heads, kv_heads,
                     "the size must divide the first and divide or be a multiple of the second");
    }
  }
  return {};
}

}  // namespace

const char* name(LayerKind kind) {
  constexpr const char* kNames[] = {"full", "window", "chunk", "latent", "state"};
  static_assert(std::size(kNames) == kLayerKinds);
  return kNames[static_cast<size_t>(kind)];
}

int64_t CacheGroup::page_data_bytes() const {
  if (!has_tokens()) return state_bytes;
  if (rows.empty()) return n_layers() * layer_bytes();
  int64_t bytes = 0;
  for (const CacheGroup& row : rows) bytes += row.layer_bytes();
  return bytes;
}

int64_t CacheGroup::page_bytes() const { return round_up(page_data_bytes(), kGranuleBytes); }

Result<std::vector<CacheGroup>> cache_groups(const ModelSpec& model, const CacheFormat& format) {
  CHECK(format.ranks > 0 && format.page_tokens > 0);
  CHECK(!format.token_scales || is_f8(format.dtype), "token scales of {}", name(format.dtype));
  TRY_STATUS(check_divides(model, format.ranks));
  TRY_STATUS(check_skipped(model, format));
  Grouping grouping{.page_tokens = format.page_tokens, .groups = {}};
  bool has_latent = false;
  for (size_t i = 0; i < model.layers.size(); ++i) {
    const Mixer& mixer = model.layers[i].mixer;
    const CacheFormat own = layer_format(format, mixer, i);
    if (const auto* a = std::get_if<AttentionSpec>(&mixer)) {
      grouping.add(attention_group(*a, own), i);
    } else if (const auto* latent = std::get_if<LatentSpec>(&mixer)) {
      has_latent = true;
      grouping.add(latent_group(*latent, own), i);
      if (latent->index_dim > 0) grouping.add(index_group(*latent, own), i);
    } else if (const auto* state = std::get_if<StateSpec>(&mixer)) {
      grouping.add(state_group(*state, own), i);
    }
  }
  for (const CacheGroup& group : grouping.groups) {
    TRY_STATUS(check_scales_aligned(group, static_cast<size_t>(group.layers[0])));
  }
  if (format.packed_latent && !has_latent) {
    return unsupported("cache dtype fp8_ds_mla: {} has no latent layers; use fp8",
                       excerpt(model.model_type));
  }
  return std::move(grouping.groups);
}

Result<std::vector<CacheGroup>> cache_groups(const ModelSpec& model, const ModelSpec& draft,
                                             const CacheFormat& format) {
  TRY(std::vector<CacheGroup> groups, cache_groups(model, format));
  TRY(const std::vector<CacheGroup> more, cache_groups(draft, draft_format(format)));
  for (const CacheGroup& group : more) {
    groups.push_back(group);
    for (int32_t& layer : groups.back().layers) layer += static_cast<int32_t>(model.layers.size());
  }
  return groups;
}

CacheFormat draft_format(CacheFormat format) {
  format.packed_latent = false;
  format.skip_layers.clear();
  return format;
}

std::vector<CacheGroup> cache_groups(const ModelSpec& model, DType dtype, int32_t page_tokens) {
  auto groups = cache_groups(model, CacheFormat{.dtype = dtype, .page_tokens = page_tokens});
  CHECK(groups.has_value());
  return *std::move(groups);
}

}  // namespace ashlar
