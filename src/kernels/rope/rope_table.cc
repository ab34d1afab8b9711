#include <cmath>

#include "kernels/rope/rope.h"

namespace ashlar {

void rope_table(std::span<const int32_t> positions, std::span<const float> inv_freq,
                float amplitude, View cos_sin) {
  const auto half = static_cast<int64_t>(inv_freq.size());
  CHECK(cos_sin.dim(0) == static_cast<int64_t>(positions.size()) && cos_sin.dim(1) == 2 * half,
        "cos_sin {} for {} positions and {} frequencies", cos_sin.shape.text(), positions.size(),
        half);
  for (int64_t t = 0; t < cos_sin.dim(0); ++t) {
    const auto position = static_cast<float>(positions[static_cast<size_t>(t)]);
    float* row = cos_sin.row<float>(t);
    for (int64_t i = 0; i < half; ++i) {
      const float angle = position * inv_freq[static_cast<size_t>(i)];
      row[i] = std::cos(angle) * amplitude;
      row[half + i] = std::sin(angle) * amplitude;
    }
  }
}

}  // namespace ashlar
