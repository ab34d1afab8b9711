#include "weights/convert.h"

#include <bit>
#include <cmath>
#include <cstring>

#include "base/check.h"

namespace ashlar {
namespace {

template <class T>
T load(const std::byte* bytes, int64_t i) {
  T value;
  std::memcpy(&value, bytes + i * static_cast<int64_t>(sizeof(T)), sizeof(T));
  return value;
}

bool is_infinite(float value) { return std::isinf(value); }
bool is_infinite(Bf16 value) { return (value.bits & 0x7FFF) == 0x7F80; }
bool is_infinite(F16 value) { return (value.bits & 0x7FFF) == 0x7C00; }

template <class From, class To>
int64_t convert(const std::byte* from, std::byte* to, int64_t n) {
  auto* out = reinterpret_cast<To*>(to);
  for (int64_t i = 0; i < n; ++i) {
    const float value = to_float(load<From>(from, i));
    out[i] = narrow<To>(value);
    if (is_infinite(out[i]) && !std::isinf(value)) [[unlikely]]
      return i;
  }
  return -1;
}

// Calls fn with a null pointer of the element type.
template <class Fn>
auto with_type(DType dtype, Fn&& fn) {
  CHECK(is_float(dtype), "dtype {}", name(dtype));
  if (dtype == DType::bf16) return fn(static_cast<Bf16*>(nullptr));
  if (dtype == DType::f16) return fn(static_cast<F16*>(nullptr));
  return fn(static_cast<float*>(nullptr));
}

}  // namespace

int64_t convert_elements(const std::byte* from, DType from_type, std::byte* to, DType to_type,
                         int64_t n) {
  if (from_type == to_type) {
    if (n > 0) std::memcpy(to, from, static_cast<size_t>(n * size_of(to_type)));
    return -1;
  }
  return with_type(from_type, [&]<class From>(From*) {
    return with_type(to_type, [&]<class To>(To*) { return convert<From, To>(from, to, n); });
  });
}

int64_t find_not_finite(const float* values, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    if (!std::isfinite(values[i])) return i;
  }
  return -1;
}

float element(const std::byte* bytes, DType type, int64_t i) {
  return with_type(type, [&]<class T>(T*) { return to_float(load<T>(bytes, i)); });
}

}  // namespace ashlar
