#pragma once

// What the test and the bench of latent attention on CUDA share: numbers as they are stored. Test
// code only.

#include <cstring>

#include "kernels/cuda/testing.cuh"
#include "kernels/latent/cuda/latent_cuda.h"
#include "kernels/testing.h"

namespace ashlar {

using cuda::DeviceBytes;

inline std::span<std::byte> all_of(const DeviceBytes& memory) {
  return {memory.get(), memory.bytes()};
}
inline size_t bytes_of(int64_t n) { return static_cast<size_t>(n); }

// A number as `dtype` stores it, and what it then is.
inline uint32_t code_of(float value, DType dtype) {
  switch (dtype) {
    case DType::bf16: return std::bit_cast<uint16_t>(to_bf16(value));
    case DType::f16: return std::bit_cast<uint16_t>(to_f16(value));
    case DType::f8e4m3: return to_f8e4m3(value).bits;
    case DType::f8e5m2: return to_f8e5m2(value).bits;
    default: CHECK(false, "{}", name(dtype)); return 0;
  }
}
inline float value_of(uint32_t code, DType dtype) {
  switch (dtype) {
    case DType::bf16: return to_float(std::bit_cast<Bf16>(static_cast<uint16_t>(code)));
    case DType::f16: return to_float(std::bit_cast<F16>(static_cast<uint16_t>(code)));
    case DType::f8e4m3: return to_float(F8E4M3{static_cast<uint8_t>(code)});
    case DType::f8e5m2: return to_float(F8E5M2{static_cast<uint8_t>(code)});
    default: CHECK(false, "{}", name(dtype)); return 0;
  }
}

// Codes of `values` as they lie in memory.
inline std::vector<uint8_t> stored(const std::vector<float>& values, DType dtype) {
  const auto size = static_cast<size_t>(size_of(dtype));
  std::vector<uint8_t> bytes(values.size() * size);
  for (size_t i = 0; i < values.size(); ++i) {
    const uint32_t code = code_of(values[i], dtype);
    std::memcpy(&bytes[i * size], &code, size);
  }
  return bytes;
}
// And what they stand for.
inline std::vector<float> loaded(const std::vector<uint8_t>& bytes, DType dtype) {
  const auto size = static_cast<size_t>(size_of(dtype));
  std::vector<float> values(bytes.size() / size);
  for (size_t i = 0; i < values.size(); ++i) {
    uint32_t code = 0;
    std::memcpy(&code, &bytes[i * size], size);
    values[i] = value_of(code, dtype);
  }
  return values;
}

}  // namespace ashlar
