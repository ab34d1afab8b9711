#pragma once

// What kernel tests and benches share: seeded data, views of vectors, poison and error measures.
// Test code only; no room includes it.

#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "tensor/view.h"

namespace ashlar {

class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}
  std::vector<float> normal(int64_t n, float scale = 1.0f) {
    std::normal_distribution<float> distribution(0.0f, scale);
    std::vector<float> values(static_cast<size_t>(n));
    for (float& value : values) value = distribution(engine_);
    return values;
  }
  // Uniform in [low, high].
  int64_t integer(int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(engine_);
  }

 private:
  std::mt19937_64 engine_;
};

inline std::vector<Bf16> to_bf16(const std::vector<float>& values) {
  std::vector<Bf16> out;
  for (const float value : values) out.push_back(to_bf16(value));
  return out;
}
inline std::vector<F16> to_f16(const std::vector<float>& values) {
  std::vector<F16> out;
  for (const float value : values) out.push_back(to_f16(value));
  return out;
}

template <class T>
constexpr DType dtype_of() {
  if constexpr (std::is_same_v<T, float>) return DType::f32;
  if constexpr (std::is_same_v<T, Bf16>) return DType::bf16;
  if constexpr (std::is_same_v<T, F16>) return DType::f16;
  if constexpr (std::is_same_v<T, int32_t>) return DType::i32;
}

// Dense views of a vector's elements.
template <class T>
View view(std::vector<T>& values, Shape shape) {
  CHECK(shape.elements() <= static_cast<int64_t>(values.size()), "shape {}", shape.text());
  return View(reinterpret_cast<std::byte*>(values.data()), dtype_of<T>(), shape);
}
template <class T>
ConstView view(const std::vector<T>& values, Shape shape) {
  CHECK(shape.elements() <= static_cast<int64_t>(values.size()), "shape {}", shape.text());
  return ConstView(reinterpret_cast<const std::byte*>(values.data()), dtype_of<T>(), shape);
}

// NaN everywhere: an element nobody writes, or a read of what must not be read, shows.
inline std::vector<float> poisoned(size_t n) {
  return std::vector<float>(n, std::numeric_limits<float>::quiet_NaN());
}

// ||actual - expected|| / ||expected||; NaN anywhere gives NaN, which compares false with any
// bound.
inline double relative_error(const std::vector<float>& actual, const std::vector<float>& expected) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double delta = static_cast<double>(actual[i]) - expected[i];
    difference += delta * delta;
    norm += static_cast<double>(expected[i]) * expected[i];
  }
  return std::sqrt(difference / (norm > 0 ? norm : 1));
}

}  // namespace ashlar
