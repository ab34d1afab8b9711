#include "kv/uniform_layer.h"

#include <algorithm>
#include <initializer_list>

#include "base/checked.h"

namespace ashlar {
namespace {

// A row's numbers stay below this, and a page below 1 TiB: products of a page with a block count
// are then the only ones that can overflow, and the capacity code caps those.
constexpr int64_t kMaxNumber = int64_t{1} << 31;
constexpr uint64_t kMaxPageBytes = uint64_t{1} << 40;

constexpr int64_t kScaleBytes = 4;           // f32, per token and head
constexpr int64_t kPackedLatentBytes = 656;  // of one token in the "fp8_ds_mla" format

bool per_token_head(KvQuant quant) {
  return quant == KvQuant::int8_per_token_head || quant == KvQuant::fp8_per_token_head ||
         quant == KvQuant::int4_per_token_head;
}

// Elements of storage for `dim` values. Window layers do not halve int4: so does the reference.
int64_t stored_dim(const UniformSpec& spec, int64_t dim) {
  if (spec.quant == KvQuant::int4_per_token_head && spec.kind != UniformKind::window) {
    return dim / 2;
  }
  if (spec.quant == KvQuant::nvfp4 && spec.kind != UniformKind::latent) return dim / 2 + dim / 16;
  return dim;
}

int64_t token_head_elements(const UniformSpec& spec) {
  if (spec.kind == UniformKind::latent) return stored_dim(spec, spec.k_dim);
  return stored_dim(spec, spec.k_dim) + stored_dim(spec, spec.v_dim);
}

Status in_range(const std::string& layer, const char* field, int64_t value, int64_t low) {
  if (value >= low && value <= kMaxNumber) return {};
  return invalid("layer {}: {} {} is outside {} to {}", excerpt(layer), field, value, low,
                 kMaxNumber);
}

Result<uint64_t> checked_state_bytes(const UniformSpec& spec, const std::string& layer) {
  uint64_t total = 0;
  for (const StateTensor& state : spec.states) {
    TRY_STATUS(in_range(layer, "state element bytes", state.element_bytes, 1));
    auto bytes = static_cast<uint64_t>(state.element_bytes);
    for (const int64_t extent : state.shape) {
      TRY_STATUS(in_range(layer, "state extent", extent, 1));
      TRY(bytes, checked_mul({bytes, static_cast<uint64_t>(extent)}));
    }
    TRY(total, checked_add({total, bytes}));
  }
  return total;
}

Result<uint64_t> checked_attention_bytes(const UniformSpec& spec, const std::string& layer) {
  TRY_STATUS(in_range(layer, "kv heads", spec.kv_heads, 1));
  TRY_STATUS(in_range(layer, "head size", spec.k_dim, 1));
  TRY_STATUS(in_range(layer, "head size of V", spec.v_dim, 1));
  TRY_STATUS(in_range(layer, "element bytes", spec.element_bytes, 1));
  TRY_STATUS(in_range(layer, "window", spec.window, spec.kind == UniformKind::window ? 1 : 0));
  TRY_STATUS(in_range(layer, "chunk", spec.chunk, spec.kind == UniformKind::chunk ? 1 : 0));
  // The largest any format takes: K, V, the scales, or a packed latent.
  const uint64_t widest =
      static_cast<uint64_t>(spec.k_dim + spec.v_dim) * static_cast<uint64_t>(spec.element_bytes) +
      2 * kScaleBytes + kPackedLatentBytes;
  return checked_mul({static_cast<uint64_t>(spec.block_tokens),
                      static_cast<uint64_t>(spec.kv_heads), static_cast<uint64_t>(spec.pack),
                      widest});
}

}  // namespace

const char* name(UniformKind kind) {
  static constexpr const char* kNames[] = {"full", "window", "chunk", "latent", "state"};
  return kNames[static_cast<size_t>(kind)];
}

Status check_spec(const UniformSpec& spec, const std::string& layer) {
  TRY_STATUS(in_range(layer, "block size", spec.block_tokens, 1));
  TRY_STATUS(in_range(layer, "pack size", spec.pack, 1));
  TRY_STATUS(in_range(layer, "speculative blocks", spec.speculative_blocks, 0));
  TRY(const uint64_t bytes,
      spec.attends() ? checked_attention_bytes(spec, layer) : checked_state_bytes(spec, layer));
  const auto padded = static_cast<uint64_t>(spec.padded_page_bytes);  // a negative one: over
  if (std::max(bytes, padded) > kMaxPageBytes) {
    return invalid("layer {}: a page of up to {} bytes, padded to {}; limit {}", excerpt(layer),
                   bytes, spec.padded_page_bytes, kMaxPageBytes);
  }
  if (page_data_bytes(spec) < 1) {
    return invalid("layer {}: a page of no bytes (head size {})", excerpt(layer), spec.k_dim);
  }
  if (spec.padded_page_bytes > 0 && page_bytes(spec) < page_data_bytes(spec)) {
    return error(Code::not_found, "layer {}: a page padded to {} bytes holds {} bytes of data",
                 excerpt(layer), page_bytes(spec), page_data_bytes(spec));
  }
  return {};
}

int64_t page_data_bytes(const UniformSpec& spec) {
  int64_t bytes = 0;
  if (!spec.attends()) {
    for (const StateTensor& state : spec.states) {
      int64_t elements = 1;
      for (const int64_t extent : state.shape) elements *= extent;
      bytes += elements * state.element_bytes;
    }
    return bytes;
  }
  if (spec.kind == UniformKind::latent && spec.cache_format == "fp8_ds_mla") {
    bytes = spec.block_tokens * kPackedLatentBytes;
  } else {
    bytes = spec.block_tokens * spec.kv_heads * token_head_elements(spec) * spec.element_bytes;
  }
  if (per_token_head(spec.quant)) bytes += 2 * spec.block_tokens * spec.kv_heads * kScaleBytes;
  return bytes * spec.pack;
}

int64_t page_bytes(const UniformSpec& spec) {
  return spec.padded_page_bytes > 0 ? spec.padded_page_bytes : page_data_bytes(spec);
}

Result<int64_t> request_blocks(const UniformSpec& spec, const UniformLimits& limits) {
  const int64_t length = limits.max_model_len;
  switch (spec.kind) {
    case UniformKind::full:
    case UniformKind::latent:
      return ceil_div(ceil_div(length, limits.context_ranks), spec.block_tokens);
    case UniformKind::window:
      if (limits.context_ranks != 1) {
        return error(Code::not_found,
                     "decode context parallel size {}: window layers need 1; lower it",
                     limits.context_ranks);
      }
      // One more block, because a window need not start where a block does.
      return ceil_div(std::min(spec.window - 1 + limits.max_in_flight_tokens, length),
                      spec.block_tokens) +
             1;
    case UniformKind::chunk:
      return ceil_div(std::min(spec.chunk + limits.max_in_flight_tokens, length),
                      spec.block_tokens);
    case UniformKind::state: break;
  }
  if (limits.state_mode == StateMode::all) {
    return ceil_div(length, spec.block_tokens) + spec.speculative_blocks;
  }
  return (limits.state_mode == StateMode::align ? 2 : 1) + spec.speculative_blocks;
}

}  // namespace ashlar
