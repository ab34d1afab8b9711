#pragma once

// What the flags say of the cache's contents: its type, the layers that keep the model's, and the
// scales of 8-bit floats.

#include <string>
#include <string_view>
#include <vector>

#include "cli/options.h"
#include "spec/groups.h"
#include "weights/kv_scales.h"

namespace ashlar {

// What --kv-cache-dtype and the compute type mean; `auto` is the model's type. unsupported: an
// unknown name.
Result<CacheFormat> parse_cache_format(std::string_view text, DType model);

// The same with every flag of the cache, for a model computed from `model`. invalid: flags that
// contradict each other.
Result<CacheFormat> choose_cache_format(const ModelFlags& flags, DType model);

struct KvScales {
  std::vector<KvScale> layers;  // one per layer, 1 where nobody gave any
  bool given = false;           // some layer's were
};

// --kv-scales, else the checkpoint's, else 1. Errors name the file or the tensor.
Result<KvScales> choose_kv_scales(const std::string& file, const CacheFormat& format,
                                  const ModelSpec& spec, const Checkpoint& checkpoint);

// A file for --kv-scales.
Json scales_as_json(const std::vector<KvScale>& layers);

}  // namespace ashlar
