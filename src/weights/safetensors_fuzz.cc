// Any bytes: parse_safetensors answers entries that lie within them, or an error.

#include "base/check.h"
#include "weights/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span file(reinterpret_cast<const std::byte*>(data), size);
  const auto entries = ashlar::parse_safetensors(file, "fuzz");
  if (!entries) {
    CHECK(!entries.error().text.empty());
    return 0;
  }
  uint64_t end = entries->empty() ? size : entries->front().begin;
  for (const ashlar::TensorEntry& entry : *entries) {
    CHECK(entry.begin == end && entry.end >= entry.begin && entry.end <= size, "{} {}", entry.begin,
          entry.end);
    uint64_t bits = static_cast<uint64_t>(entry.type->bits);
    for (const int64_t dim : entry.dims) bits *= static_cast<uint64_t>(dim);
    CHECK(bits == 8 * (entry.end - entry.begin));
    end = entry.end;
  }
  CHECK(end == size);
  return 0;
}
