#include "kv/uniform_unify.h"

#include <algorithm>

namespace ashlar {
namespace {

// The one positive value of `field` among the packs, 0 when none has one, -1 when two differ.
int64_t common_value(std::span<const LayerPack> packs, int64_t UniformSpec::*field) {
  int64_t value = 0;
  for (const LayerPack& pack : packs) {
    const int64_t here = pack.spec.*field;
    if (here == 0 || here == value) continue;
    if (value != 0) return -1;
    value = here;
  }
  return value;
}

// Full layers merge when these agree. The width of V is not among them: the reference does not
// compare it either, and gives the group the first layer's.
bool same_storage(const UniformSpec& a, const UniformSpec& b) {
  return a.block_tokens == b.block_tokens && a.kv_heads == b.kv_heads && a.k_dim == b.k_dim &&
         a.element_bytes == b.element_bytes && a.quant == b.quant &&
         a.padded_page_bytes == b.padded_page_bytes && a.strided == b.strided && a.pack == b.pack;
}

Result<std::optional<UniformSpec>> merged_full(std::span<const LayerPack> packs) {
  UniformSpec merged = packs[0].spec;
  const auto is_full = [](const LayerPack& p) { return p.spec.kind == UniformKind::full; };
  if (!std::all_of(packs.begin(), packs.end(), is_full)) return std::optional<UniformSpec>();
  merged.window = common_value(packs, &UniformSpec::window);
  merged.chunk = common_value(packs, &UniformSpec::chunk);
  // Refused before the geometry is looked at, as in the reference: two windows are an error even
  // where other differences would have kept the layers apart.
  if (merged.window < 0 || merged.chunk < 0) {
    return invalid("full layers with different {} cannot share one cache group",
                   merged.window < 0 ? "window sizes" : "chunk sizes");
  }
  const auto same = [&](const LayerPack& p) { return same_storage(p.spec, merged); };
  if (!std::all_of(packs.begin(), packs.end(), same)) return std::optional<UniformSpec>();
  if (merged.window > 0 && merged.chunk > 0) return std::optional<UniformSpec>();
  return std::optional(merged);
}

// A local layer as the full layer that holds its tokens. `block_tokens` is that of the full layers
// beside it, or its own where they disagree.
Result<UniformSpec> promoted(const LayerPack& local, int64_t block_tokens) {
  UniformSpec full = local.spec;
  full.kind = UniformKind::full;
  full.block_tokens = block_tokens;
  full.padded_page_bytes = 0;
  full.strided = false;  // the reference forgets the gate here ...
  if (local.spec.kind == UniformKind::chunk) full.quant = KvQuant::none;  // ... and the format here
  TRY_STATUS(check_spec(full, local.layers[0]));
  if (local.spec.padded_page_bytes > 0) {
    const int64_t token_bytes = page_data_bytes(local.spec) / local.spec.block_tokens;
    full.padded_page_bytes = std::max(local.spec.padded_page_bytes, token_bytes * block_tokens);
  }
  return full;
}

Result<bool> of_one_type(std::span<const LayerPack> packs) {
  TRY(const std::optional<UniformSpec> merged, merged_spec(packs));
  return merged.has_value() || same_tokens(packs);
}

}  // namespace

Result<std::optional<UniformSpec>> merged_spec(std::span<const LayerPack> packs) {
  CHECK(!packs.empty());
  const UniformSpec& first = packs[0].spec;
  if (first.kind == UniformKind::full) return merged_full(packs);
  const auto same = [&](const LayerPack& p) {
    // Latent layers need only the same format and gate; the group takes the first one's page.
    if (first.kind == UniformKind::latent) {
      return p.spec.kind == UniformKind::latent && p.spec.cache_format == first.cache_format &&
             p.spec.strided == first.strided;
    }
    return p.spec == first;
  };
  if (!std::all_of(packs.begin(), packs.end(), same)) return std::optional<UniformSpec>();
  return std::optional(first);
}

bool same_tokens(std::span<const LayerPack> packs) {
  CHECK(!packs.empty());
  const UniformSpec& first = packs[0].spec;
  const auto same = [&](const LayerPack& p) {
    const UniformSpec& spec = p.spec;
    if (spec.block_tokens != first.block_tokens) return false;
    if (first.keeps_all()) return spec.keeps_all();
    return spec.kind == first.kind && spec.window == first.window && spec.chunk == first.chunk &&
           spec.speculative_blocks == first.speculative_blocks;
  };
  return std::all_of(packs.begin(), packs.end(), same);
}

Result<std::vector<LayerPack>> promote_local(std::vector<LayerPack> packs) {
  TRY(const bool already, of_one_type(packs));
  if (already) return packs;
  std::vector<LayerPack> full;
  for (const LayerPack& pack : packs) {
    if (pack.spec.keeps_all()) full.push_back(pack);
  }
  const int64_t common = common_value(full, &UniformSpec::block_tokens);
  for (LayerPack& pack : packs) {
    const bool local =
        pack.spec.kind == UniformKind::window || pack.spec.kind == UniformKind::chunk;
    if (!local || full.empty()) continue;
    TRY(pack.spec, promoted(pack, common > 0 ? common : pack.spec.block_tokens));
  }
  TRY(const bool one_type, of_one_type(packs));
  if (one_type) return packs;
  return invalid(
      "hybrid grouping is disabled, but the layers cannot be promoted to one type ({} of {} keep "
      "every token); enable it",
      full.size(), packs.size());
}

Result<std::vector<LayerPack>> unify_pages(std::vector<LayerPack> packs) {
  int64_t largest = 0;
  for (const LayerPack& pack : packs) largest = std::max(largest, page_bytes(pack.spec));
  for (LayerPack& pack : packs) {
    UniformSpec& spec = pack.spec;
    const int64_t page = page_bytes(spec);
    if (page == largest) continue;
    if (!spec.attends()) {
      spec.padded_page_bytes = largest;  // a state does not grow with the block
    } else if (largest % page == 0) {
      spec.block_tokens *= largest / page;
    } else if (spec.strided) {
      spec.padded_page_bytes = largest;
    } else {
      return unsupported(
          "layer {}: a page of {} bytes does not divide the largest, {} bytes, and its kernels "
          "cannot read padded pages (they do not index pages by the block stride)",
          excerpt(pack.layers[0]), page, largest);
    }
    if (page_bytes(spec) != largest) {
      return error(Code::not_found,
                   "layer {}: a page already padded to {} bytes cannot grow to {} with its block",
                   excerpt(pack.layers[0]), page, largest);
    }
  }
  return packs;
}

}  // namespace ashlar
