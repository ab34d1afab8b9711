#include "kernels/norm/rms_norm_cuda.h"

#include <cuda_runtime.h>

#include "base/check.h"

namespace ashlar {
namespace {

constexpr int kThreads = 256;
constexpr int kWarp = 32;

// The sum over a block in a fixed tree, so that a row's result never changes.
__device__ float block_sum(float value) {
  __shared__ float warps[kThreads / kWarp];
  for (int step = kWarp / 2; step > 0; step /= 2) value += __shfl_xor_sync(~0u, value, step);
  if (threadIdx.x % kWarp == 0) warps[threadIdx.x / kWarp] = value;
  __syncthreads();
  float sum = 0;
  for (const float part : warps) sum += part;
  return sum;
}

// One block per row: a row is read twice, the second time from L1.
__global__ void __launch_bounds__(kThreads)
    norm_rows(const float* x, int64_t x_stride, const float* weight, float eps, int width, float* y,
              int64_t y_stride) {
  x += blockIdx.x * x_stride;
  y += blockIdx.x * y_stride;
  float squares = 0;
  for (int i = static_cast<int>(threadIdx.x); i < width; i += kThreads) squares += x[i] * x[i];
  const float scale = rsqrtf(block_sum(squares) / static_cast<float>(width) + eps);
  for (int i = static_cast<int>(threadIdx.x); i < width; i += kThreads)
    y[i] = x[i] * scale * weight[i];
}

}  // namespace

void rms_norm_cuda(const RmsNormParams& p, CUstream_st* stream) {
  const int64_t n_rows = p.x.dim(0);
  if (n_rows == 0) return;
  norm_rows<<<static_cast<unsigned>(n_rows), kThreads, 0, stream>>>(
      p.x.row<float>(0), p.x.stride(0), p.weight, p.eps, static_cast<int>(p.x.dim(1)),
      p.y.row<float>(0), p.y.stride(0));
  const cudaError_t launched = cudaGetLastError();
  CHECK(launched == cudaSuccess, "rms_norm: {}", cudaGetErrorString(launched));
}

}  // namespace ashlar
