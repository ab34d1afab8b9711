#include "cli/attention_needs.h"

#include <algorithm>

#include "kernels/attention/attention.h"

namespace ashlar {
namespace {

AttentionNeed pages_of(const CacheGroup& group) {
  return {.kv_heads = group.kv_heads,
          .k_dim = group.k_dim,
          .v_dim = group.v_dim,
          .window = group.window,
          .chunk = group.chunk,
          .pages = group.dtype,
          .token_scales = group.token_scales,
          .page_tokens = group.page_tokens};
}

void add_heads(const AttentionSpec& layer, AttentionNeed* need) {
  need->heads = layer.heads;
  need->window = layer.window;
  need->sinks = layer.sinks;
  need->softcap = layer.softcap > 0;
  need->causal = layer.causal;
}

void add_latent(const LatentSpec& layer, AttentionNeed* need) {
  need->form = AttentionForm::latent;
  need->kv_heads = 1;
  need->heads = layer.heads;
  need->k_dim = layer.row_dim();
  need->v_dim = layer.kv_lora;
}

// How many layers of `model` ask for the same as one of a group.
void add(std::vector<LayerNeed>* needs, const LayerNeed& row) {
  const auto same = [&](const LayerNeed& other) {
    return other.kind == row.kind && other.need == row.need;
  };
  const auto found = std::find_if(needs->begin(), needs->end(), same);
  if (found == needs->end()) {
    needs->push_back(row);
  } else {
    ++found->n_layers;
  }
}

}  // namespace

std::vector<LayerNeed> attention_needs(const ModelSpec& model, std::span<const CacheGroup> groups,
                                       Device::Kind device, DType compute, size_t first) {
  std::vector<LayerNeed> needs;
  for (const CacheGroup& group : groups) {
    if (!group.has_tokens()) continue;
    for (int64_t i = 0; i < group.n_layers(); ++i) {
      const auto layer = static_cast<size_t>(group.layers[static_cast<size_t>(i)]);
      if (layer < first || layer - first >= model.layers.size()) continue;
      LayerNeed row{
          .need = pages_of(group.row(i)), .kind = group.kind, .n_layers = 1, .draft = first > 0};
      const bool rounds = device == Device::Kind::cuda || fits_bf16(group.row(i).dtype);
      row.need.query = rounds ? compute : DType::f32;
      const Mixer& mixer = model.layers[layer - first].mixer;
      if (const auto* heads = std::get_if<AttentionSpec>(&mixer)) add_heads(*heads, &row.need);
      if (const auto* latent = std::get_if<LatentSpec>(&mixer)) add_latent(*latent, &row.need);
      add(&needs, row);
    }
  }
  return needs;
}

}  // namespace ashlar
