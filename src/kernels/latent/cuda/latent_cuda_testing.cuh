#pragma once

// What the tests and the bench of latent attention on CUDA share: device memory, rows in pages with
// poison around them, a reference in double. Test code only.

#include <cuda_runtime.h>

#include <algorithm>
#include <cstring>

#include "kernels/cuda/launch.cuh"
#include "kernels/latent/cuda/latent_cuda.h"
#include "kernels/testing.h"

namespace ashlar {

inline bool has_cuda_device() {
  int n_devices = 0;
  return cudaGetDeviceCount(&n_devices) == cudaSuccess && n_devices > 0;
}

// Device memory; every byte 0xFF (NaN in every type of row) until something is put there.
class DeviceBytes {
 public:
  explicit DeviceBytes(int64_t bytes) : bytes_(static_cast<size_t>(bytes)) {
    CHECK_CUDA(cudaMalloc(&data_, std::max<size_t>(bytes_, 256)));
    CHECK_CUDA(cudaMemset(data_, 0xFF, bytes_));
  }
  template <class T>
  explicit DeviceBytes(const std::vector<T>& values)
      : DeviceBytes(static_cast<int64_t>(values.size() * sizeof(T))) {
    CHECK_CUDA(cudaMemcpy(data_, values.data(), bytes_, cudaMemcpyHostToDevice));
  }
  ~DeviceBytes() { cudaFree(data_); }
  DeviceBytes(const DeviceBytes&) = delete;
  DeviceBytes& operator=(const DeviceBytes&) = delete;

  std::byte* get() const { return static_cast<std::byte*>(data_); }
  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  std::span<std::byte> bytes() const { return {get(), bytes_}; }
  template <class T>
  std::vector<T> read() const {
    std::vector<T> values(bytes_ / sizeof(T));
    CHECK_CUDA(cudaMemcpy(values.data(), data_, bytes_, cudaMemcpyDeviceToHost));
    return values;
  }

 private:
  void* data_ = nullptr;
  size_t bytes_;
};

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
