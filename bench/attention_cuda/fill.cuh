#pragma once

// Numbers for the bench, made on the device: the same for the same seed.

#include "kernels/attention/cuda/element.cuh"
#include "kernels/cuda/testing.cuh"

namespace ashlar::bench {

static __device__ uint32_t mixed(uint64_t x) {  // splitmix64
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return static_cast<uint32_t>((x ^ (x >> 31)) >> 32);
}

// Box-Muller.
static __device__ float normal(uint64_t i) {
  const float u = (static_cast<float>(mixed(2 * i) >> 8) + 0.5f) * 0x1p-24f;
  const float v = static_cast<float>(mixed(2 * i + 1) >> 8) * 0x1p-24f;
  return sqrtf(-2.0f * __logf(u)) * __cosf(6.2831853f * v);
}

static __global__ void fill_normal(void* to, DType dtype, int64_t n, uint64_t seed, float scale) {
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n; i += step) {
    const float x = normal((seed << 40) + static_cast<uint64_t>(i)) * scale;
    if (dtype == DType::f8e4m3)
      static_cast<__nv_fp8_e4m3*>(to)[i] = __nv_fp8_e4m3(x);
    else if (dtype == DType::f8e5m2)
      static_cast<__nv_fp8_e5m2*>(to)[i] = __nv_fp8_e5m2(x);
    else
      cuda::store(to, dtype, i, x);
  }
}
inline void fill_normal(const cuda::DeviceBytes& memory, DType dtype, uint64_t seed, float scale) {
  const auto n = static_cast<int64_t>(memory.bytes()) / size_of(dtype);
  fill_normal<<<4096, 256>>>(memory.get(), dtype, n, seed, scale);
  CHECK_CUDA(cudaGetLastError());
}

// Scales of tokens, uniform in [low, 3 low), in n_pages pages `stride` bytes apart.
static __global__ void fill_scales(std::byte* scales, int64_t a_page, int64_t stride,
                                   int64_t n_pages, float low) {
  for (int64_t page = blockIdx.x; page < n_pages; page += gridDim.x) {
    auto* to = reinterpret_cast<float*>(scales + page * stride);
    for (int64_t i = threadIdx.x; i < a_page; i += blockDim.x) {
      const auto seed = static_cast<uint64_t>(page * a_page + i);
      to[i] = low * (1.0f + 2.0f * static_cast<float>(mixed(seed) >> 8) * 0x1p-24f);
    }
  }
}

}  // namespace ashlar::bench
