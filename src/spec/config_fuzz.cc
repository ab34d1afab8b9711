// Any bytes as a config.json: an error, or a model whose rows and groups are consistent.

#include <cmath>

#include "base/check.h"
#include "spec/groups.h"
#include "spec/weights.h"

namespace ashlar {
namespace {

void check_mixer(const ModelSpec& model, const Mixer& mixer) {
  if (const auto* a = std::get_if<AttentionSpec>(&mixer)) {
    CHECK(a->k_dim > 0 && a->v_dim > 0 && a->kv_heads > 0 && a->heads % a->kv_heads == 0);
    CHECK(std::isfinite(a->scale) && std::isfinite(a->value_scale));
    CHECK(a->rope == kNoRope || static_cast<size_t>(a->rope) < model.ropes.size());
  } else if (const auto* latent = std::get_if<LatentSpec>(&mixer)) {
    CHECK(latent->row_dim() > 0 && std::isfinite(latent->scale));
  } else if (const auto* state = std::get_if<StateSpec>(&mixer)) {
    CHECK(state->bytes() > 0);
  }
}

void check_model(const ModelSpec& model) {
  size_t n_experts = 0;
  for (const RopeSpec& rope : model.ropes) {
    for (const float frequency : rope.inv_freq) CHECK(std::isfinite(frequency));
  }
  for (const LayerSpec& layer : model.layers) {
    check_mixer(model, layer.mixer);
    if (const auto* moe = std::get_if<MoeMlp>(&layer.mlp)) {
      n_experts += static_cast<size_t>(moe->n_experts);
    }
  }
  size_t n_layers = 0;
  for (const CacheGroup& group : cache_groups(model, DType::f32, 1024)) {
    CHECK(group.token_bytes() > 0 || !group.has_tokens());
    CHECK(group.page_data_bytes() > 0 && group.page_bytes() >= group.page_data_bytes());
    n_layers += group.layers.size();
  }
  CHECK(n_layers <= 2 * model.layers.size());  // a latent layer with an index has two
  if (!model.plan_only.empty()) return;
  CHECK(n_layers == model.layers.size());
  if (n_experts + n_layers > 512) return;  // enough rows for one input: thousands only cost time
  WeightTree<char> ignored;
  zip_weights(weight_rows(model), &ignored, [](const WeightRow& row, char&) {
    for (const WeightSource& source : row.sources) {
      const int64_t n = source.scales.empty() ? row.shape.elements() : row.shape.elements() / 2;
      CHECK(source.element(n - 1) < source.tensor_shape.elements());
    }
  });
}

}  // namespace
}  // namespace ashlar

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto json = ashlar::parse_json(text, "config.json");
  if (!json) return 0;
  if (const auto model = ashlar::read_cache_spec(*json)) ashlar::check_model(*model);
  return 0;
}
