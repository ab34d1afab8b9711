// Each form of wgmma.cuh against plain sums, from tiles in the swizzled layout. Skipped where there
// is no Hopper.

#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/wgmma.cuh"
#include "kernels/testing.h"

namespace ashlar::cuda {
namespace {

constexpr int kDepth = 64;

// Byte of element (row, column) of a tile of 64-column chunks of `rows` rows.
__device__ int place(int row, int column, int rows) {
  const int chunk = column / 64, piece = column % 64 / 8;
  return (chunk * rows + row) * 128 + (piece ^ (row % 8)) * 16 + column % 8 * 2;
}

// a [64, 64], b [n, 64] for shared products, [64, n] for register ones; d [64, n].
template <class Half, int kN, bool kRegisters>
__global__ void multiply(const Half* a, const Half* b, float* d) {
  extern __shared__ __align__(1024) uint8_t memory[];
  uint8_t* tile_a = memory;
  uint8_t* tile_b = memory + 64 * kDepth * 2;
  for (int i = threadIdx.x; i < 64 * kDepth; i += 128)
    *reinterpret_cast<Half*>(tile_a + place(i / kDepth, i % kDepth, 64)) = a[i];
  for (int i = threadIdx.x; i < kN * kDepth; i += 128) {
    const int at = kRegisters ? place(i / kN, i % kN, kDepth) : place(i / kDepth, i % kDepth, kN);
    *reinterpret_cast<Half*>(tile_b + at) = b[i];
  }
  fence_proxy_async();
  __syncthreads();
  const int row = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4;
  const int column = 2 * (threadIdx.x % 4);
  uint32_t words[kDepth / 4];
  for (int i = 0; i < kDepth / 4; ++i) {
    words[i] =
        *reinterpret_cast<const uint32_t*>(a + (row + 8 * (i % 2)) * kDepth + 8 * (i / 2) + column);
  }
  float sums[kN / 2];
  held(words);
  wgmma_fence();
  for (int i = 0; i < kDepth / 16; ++i) {
    if constexpr (kRegisters) {
      multiply_registers<Half>(
          sums, words + 4 * i,
          tile_descriptor(shared_address(tile_b) + i * 2048, 1024, kDepth * 128), i > 0);
    } else {
      multiply_shared<Half>(sums, tile_descriptor(shared_address(tile_a) + 32 * i, 1024),
                            tile_descriptor(shared_address(tile_b) + 32 * i, 1024), i > 0);
    }
  }
  wgmma_commit();
  wgmma_wait<0>();
  held(sums);
  for (int i = 0; i < kN / 2; ++i)
    d[(row + 8 * (i / 2 % 2)) * kN + 8 * (i / 4) + column + i % 2] = sums[i];
}

// Freed when the process ends.
template <class T>
T* to_device(const std::vector<T>& values) {
  void* data = nullptr;
  CHECK_CUDA(cudaMalloc(&data, values.size() * sizeof(T)));
  CHECK_CUDA(cudaMemcpy(data, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice));
  return static_cast<T*>(data);
}

template <class Half, int kN, bool kRegisters>
void check() {
  Random random(kN);
  const std::vector<float> a = random.normal(64 * kDepth), b = random.normal(kN * kDepth);
  const auto rounded = [](const std::vector<float>& from) {
    std::vector<Half> to;
    for (const float x : from) to.push_back(Half(x));
    return to;
  };
  const std::vector<Half> half_a = rounded(a), half_b = rounded(b);
  const Half* device_a = to_device(half_a);
  const Half* device_b = to_device(half_b);
  std::vector<float> expected, actual(64 * kN);
  float* device_d = to_device(actual);
  constexpr int kBytes = (64 + kN) * kDepth * 2;
  multiply<Half, kN, kRegisters><<<1, 128, kBytes>>>(device_a, device_b, device_d);
  CHECK_CUDA(cudaMemcpy(actual.data(), device_d, 64 * kN * sizeof(float), cudaMemcpyDeviceToHost));
  for (int row = 0; row < 64; ++row) {
    for (int column = 0; column < kN; ++column) {
      float sum = 0;
      for (int k = 0; k < kDepth; ++k) {
        const Half& right = half_b[kRegisters ? k * kN + column : column * kDepth + k];
        sum += static_cast<float>(half_a[row * kDepth + k]) * static_cast<float>(right);
      }
      expected.push_back(sum);
    }
  }
  EXPECT_LT(relative_error(actual, expected), 1e-5) << kN << (kRegisters ? " registers" : "");
}

TEST(Wgmma, EachFormIsAPlainProduct) {
  cudaDeviceProp device{};
  if (cudaGetDeviceProperties(&device, 0) != cudaSuccess || device.major != 9)
    GTEST_SKIP() << "no device of compute capability 9.0";
  check<__nv_bfloat16, 64, false>();
  check<__nv_bfloat16, 128, false>();
  check<__half, 64, false>();
  check<__half, 128, false>();
  check<__nv_bfloat16, 64, true>();
  check<__nv_bfloat16, 128, true>();
  check<__nv_bfloat16, 256, true>();
  check<__half, 64, true>();
  check<__half, 128, true>();
  check<__half, 256, true>();
}

}  // namespace
}  // namespace ashlar::cuda
