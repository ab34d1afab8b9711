#include "weights/kv_scales.h"

#include <cmath>
#include <span>
#include <string>

#include "weights/convert.h"

namespace ashlar {
namespace {

constexpr const char* kBranches[] = {"self_attn.", "mixer."};
// What follows the branch. The last one of each is older: one number for K and V.
constexpr const char* kKeys[] = {"k_proj.k_scale", "k_scale", "qkv_proj.k_scale", "k_cache.scale",
                                 "kv_scale"};
constexpr const char* kValues[] = {"v_proj.v_scale", "v_scale", "qkv_proj.v_scale", "v_cache.scale",
                                   "kv_scale"};
constexpr const char* kOthers[] = {"q_scale", "q.scale", "_zero_point"};

const CheckpointTensor* find(const Checkpoint& checkpoint, const ModelSpec& model,
                             const std::string& name) {
  if (const CheckpointTensor* tensor = checkpoint.find(name)) return tensor;
  for (const auto& [theirs, ours] : model.renamed_prefixes) {
    if (!name.starts_with(ours)) continue;
    if (const auto* tensor = checkpoint.find(theirs + name.substr(ours.size()))) return tensor;
  }
  return nullptr;
}

Result<float> read_scale(const CheckpointTensor& tensor) {
  const TensorEntry& entry = *tensor.entry;
  int64_t elements = 1;
  for (const int64_t dim : entry.dims) elements *= dim;
  if (elements != 1 || !entry.type->dtype || !is_float(*entry.type->dtype)) {
    return invalid(
        "{}: a scale of the cache is one number in float32, bfloat16 or float16, not {} "
        "of {}",
        excerpt(entry.name, 200), shape_text(entry.dims), entry.type->name);
  }
  const float scale = element(tensor.data, *entry.type->dtype, 0);
  if (!(scale > 0) || !std::isfinite(scale)) {
    return invalid(
        "{} is {}: a scale of the cache must be positive and finite; give others with "
        "--kv-scales",
        excerpt(entry.name, 200), scale);
  }
  return scale;
}

Result<std::optional<float>> first_of(const Checkpoint& checkpoint, const ModelSpec& model,
                                      const std::string& layer,
                                      std::span<const char* const> names) {
  for (const char* branch : kBranches) {
    for (const char* name : names) {
      if (const auto* tensor = find(checkpoint, model, layer + branch + name)) {
        TRY(const float scale, read_scale(*tensor));
        return std::optional(scale);
      }
    }
  }
  return std::optional<float>();
}

}  // namespace

Result<std::vector<std::optional<KvScale>>> read_kv_scales(const Checkpoint& checkpoint,
                                                           const ModelSpec& model) {
  std::vector<std::optional<KvScale>> scales(model.layers.size());
  for (size_t i = 0; i < scales.size(); ++i) {
    const std::string layer = fmt::format("model.layers.{}.", i);
    TRY(const std::optional<float> k, first_of(checkpoint, model, layer, kKeys));
    TRY(const std::optional<float> v, first_of(checkpoint, model, layer, kValues));
    if (k || v) scales[i] = KvScale{.k = k ? *k : *v, .v = v ? *v : *k};
  }
  return scales;
}

bool is_kv_scale(std::string_view tensor) {
  const auto ends_so = [&](std::span<const char* const> names) {
    for (const char* branch : kBranches) {
      const size_t at = tensor.rfind(branch);
      if (at == std::string_view::npos) continue;
      const std::string_view rest = tensor.substr(at + std::string_view(branch).size());
      for (const char* name : names) {
        if (rest.ends_with(name)) return true;
      }
    }
    return false;
  };
  return ends_so(kKeys) || ends_so(kValues) || ends_so(kOthers);
}

}  // namespace ashlar
