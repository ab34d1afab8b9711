#include "cli/cache_choice.h"

#include <algorithm>
#include <cmath>

#include "base/file.h"
#include "base/json.h"

namespace ashlar {
namespace {

// {"layers": [{"k": 0.1, "v": 0.2}, ...]}: a layer without tokens has {}, one with latents only k.
Result<float> read_number(const Json& layer, const char* key, float missing,
                          const std::string& where) {
  const Json* value = layer.find(key);
  if (value == nullptr) return missing;
  const double scale = value->is_number() ? value->as_double() : 0;
  if (!(scale > 0) || !std::isfinite(static_cast<float>(scale)) || static_cast<float>(scale) == 0) {
    return invalid("{}: \"{}\" is {}: expected a positive number that float32 holds", where, key,
                   excerpt(value->dump()));
  }
  return static_cast<float>(scale);
}

Result<std::vector<KvScale>> read_scales_file(const std::string& path, size_t n_layers) {
  TRY(const std::string text, read_file(path));
  TRY(const Json json, parse_json(text, path));
  const Json* layers = json.find("layers");
  if (layers == nullptr || !layers->is_array()) {
    return invalid("--kv-scales {}: expected {{\"layers\": [{{\"k\": 0.1, \"v\": 0.1}}, ...]}}",
                   path);
  }
  const Json::Array& rows = layers->as_array();
  if (rows.size() != n_layers) {
    return invalid("--kv-scales {}: {} layers, and the model has {}: give one object for each",
                   path, rows.size(), n_layers);
  }
  std::vector<KvScale> scales(n_layers);
  for (size_t i = 0; i < n_layers; ++i) {
    const std::string where = fmt::format("--kv-scales {}: layer {}", path, i);
    if (!rows[i].is_object())
      return invalid("{}: expected an object, found {}", where, rows[i].kind());
    TRY(scales[i].k, read_number(rows[i], "k", 1, where));
    TRY(scales[i].v, read_number(rows[i], "v", scales[i].k, where));
  }
  return scales;
}

}  // namespace

Result<CacheFormat> parse_cache_format(std::string_view text, DType model) {
  CacheFormat format{.dtype = model, .skip_layers = {}, .skip_dtype = model};
  if (text == "auto") return format;
  if (text == "fp8_per_token_head") {
    format.dtype = DType::f8e4m3;
    format.token_scales = true;
    return format;
  }
  const Result<DType> dtype = parse_cache_dtype(text);
  if (!dtype) {
    return Error{dtype.error().code, dtype.error().text + ", fp8_per_token_head, auto"};
  }
  format.dtype = *dtype;
  return format;
}

Result<CacheFormat> choose_cache_format(const ModelFlags& flags, DType model) {
  TRY(CacheFormat format, parse_cache_format(flags.kv_cache_dtype, model));
  format.page_tokens = flags.block_size;
  format.skip_layers = flags.kv_skip_layers;
  if (!format.skip_layers.empty() && flags.kv_cache_dtype == "auto") {
    return invalid(
        "--kv-cache-dtype-skip-layers: every layer keeps the model's type already; add "
        "--kv-cache-dtype fp8");
  }
  if (!flags.kv_scales.empty() && (!is_f8(format.dtype) || format.token_scales)) {
    return invalid("--kv-scales {}: {}; use --kv-cache-dtype fp8 or fp8_e5m2",
                   excerpt(flags.kv_scales),
                   format.token_scales ? "fp8_per_token_head finds its scales itself"
                                       : fmt::format("a {} cache has none", name(format.dtype)));
  }
  return format;
}

Result<KvScales> choose_kv_scales(const std::string& file, const CacheFormat& format,
                                  const ModelSpec& spec, const Checkpoint& checkpoint) {
  KvScales scales{.layers = std::vector<KvScale>(spec.layers.size())};
  if (!is_f8(format.dtype) || format.token_scales) return scales;
  if (!file.empty()) {
    TRY(scales.layers, read_scales_file(file, spec.layers.size()));
    scales.given = true;
    return scales;
  }
  TRY(const auto stored, read_kv_scales(checkpoint, spec));
  for (size_t i = 0; i < stored.size(); ++i) {
    if (!stored[i]) continue;
    scales.layers[i] = *stored[i];
    scales.given = true;
  }
  return scales;
}

Json scales_as_json(const std::vector<KvScale>& layers) {
  Json::Array rows;
  for (const KvScale& scale : layers) {
    rows.push_back(
        Json::Object{{"k", static_cast<double>(scale.k)}, {"v", static_cast<double>(scale.v)}});
  }
  return Json::Object{{"layers", std::move(rows)}};
}

}  // namespace ashlar
