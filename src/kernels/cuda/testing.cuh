#pragma once

// What CUDA tests and benches share: device memory, whether there is a device, times with a cold
// L2, and the roofs of this device. Test code only.

#include <cuda_runtime.h>

#include <algorithm>
#include <vector>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/mma.cuh"

namespace ashlar::cuda {

inline bool has_device() {
  int n = 0;
  return cudaGetDeviceCount(&n) == cudaSuccess && n > 0;
}
inline int n_multiprocessors() {
  int device = 0, n = 0;
  CHECK_CUDA(cudaGetDevice(&device));
  CHECK_CUDA(cudaDeviceGetAttribute(&n, cudaDevAttrMultiProcessorCount, device));
  return n;
}

// Owns device memory; every byte 0xFF (NaN in every float type) until written.
class DeviceBytes {
 public:
  explicit DeviceBytes(size_t bytes) : bytes_(bytes) {
    CHECK_CUDA(cudaMalloc(&data_, std::max<size_t>(bytes, 1)));
    CHECK_CUDA(cudaMemset(data_, 0xFF, bytes));
  }
  template <class T>
  explicit DeviceBytes(const std::vector<T>& values) : DeviceBytes(values.size() * sizeof(T)) {
    write(values);
  }
  ~DeviceBytes() { cudaFree(data_); }
  DeviceBytes(const DeviceBytes&) = delete;
  DeviceBytes& operator=(const DeviceBytes&) = delete;
  DeviceBytes(DeviceBytes&& from) noexcept
      : data_(std::exchange(from.data_, nullptr)), bytes_(from.bytes_) {}

  std::byte* get() const { return static_cast<std::byte*>(data_); }
  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  size_t bytes() const { return bytes_; }
  template <class T>
  void write(const std::vector<T>& values, size_t at = 0) {
    CHECK(at + values.size() * sizeof(T) <= bytes_);
    CHECK_CUDA(
        cudaMemcpy(get() + at, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice));
  }
  template <class T>
  std::vector<T> read() const {
    std::vector<T> values(bytes_ / sizeof(T));
    CHECK_CUDA(cudaMemcpy(values.data(), data_, values.size() * sizeof(T), cudaMemcpyDeviceToHost));
    return values;
  }

 private:
  void* data_ = nullptr;
  size_t bytes_;
};

// Median microseconds of `run` on the default stream, L2 emptied before each repetition.
template <class Run>
double median_us(Run run, int repetitions = 21) {
  static constexpr size_t kFlushBytes = size_t{256} << 20;
  const DeviceBytes flush(kFlushBytes);
  std::vector<cudaEvent_t> events(static_cast<size_t>(2 * repetitions));
  for (cudaEvent_t& event : events) CHECK_CUDA(cudaEventCreate(&event));
  for (int i = -2; i < repetitions; ++i) {
    CHECK_CUDA(cudaMemsetAsync(flush.get(), i, kFlushBytes));
    if (i >= 0) CHECK_CUDA(cudaEventRecord(events[static_cast<size_t>(2 * i)]));
    run();
    if (i >= 0) CHECK_CUDA(cudaEventRecord(events[static_cast<size_t>(2 * i + 1)]));
  }
  CHECK_CUDA(cudaDeviceSynchronize());
  std::vector<double> times;
  for (size_t i = 0; i < events.size(); i += 2) {
    float ms = 0;
    CHECK_CUDA(cudaEventElapsedTime(&ms, events[i], events[i + 1]));
    times.push_back(ms * 1e3);
  }
  for (const cudaEvent_t event : events) CHECK_CUDA(cudaEventDestroy(event));
  std::nth_element(times.begin(), times.begin() + repetitions / 2, times.end());
  return times[static_cast<size_t>(repetitions / 2)];
}

// What this device was measured to do.
struct DeviceRoof {
  double read_bytes_per_s = 0;
  double mma_flops_per_s = 0;  // mma.sync m16n8k16 on registers, f32 sums

  double us(double bytes, double flops) const {
    return 1e6 * std::max(bytes / read_bytes_per_s, flops / mma_flops_per_s);
  }
};

static __global__ void read_everything(const uint4* from, int64_t n, uint32_t* out) {
  uint32_t sum = 0;
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  for (; i + 7 * step < n; i += 8 * step) {
    uint4 part[8];
#pragma unroll
    for (int k = 0; k < 8; ++k) part[k] = __ldcs(from + i + k * step);
#pragma unroll
    for (int k = 0; k < 8; ++k) sum ^= part[k].x ^ part[k].y ^ part[k].z ^ part[k].w;
  }
  if (sum == 0x12345678) *out = sum;
}

static __global__ void multiply_registers(int rounds, float* out) {
  float d[8][4] = {};
  uint32_t a[4];
  for (uint32_t i = 0; i < 4; ++i) a[i] = 0x3f803f80u + (threadIdx.x * 4 + i) % 97;
  for (int round = 0; round < rounds; ++round) {
#pragma unroll
    for (int i = 0; i < 8; ++i) mma<__nv_bfloat16>(d[i], a, a[i % 4], a[(i + 1) % 4]);
  }
  float sum = 0;
  for (int i = 0; i < 8; ++i) sum += d[i][0] + d[i][1] + d[i][2] + d[i][3];
  if (sum == 12345.0f) *out = sum;
}

inline DeviceRoof measure_roof() {
  constexpr size_t kBytes = size_t{4} << 30;
  constexpr int kThreads = 512, kRounds = 4096;
  const DeviceBytes memory(kBytes);
  const auto blocks = static_cast<unsigned>(n_multiprocessors());
  double read = 0;
  for (const unsigned per_sm : {2u, 4u}) {
    const double us = median_us(
        [&] {
          read_everything<<<per_sm * blocks, kThreads>>>(
              memory.as<uint4>(), static_cast<int64_t>(kBytes / sizeof(uint4)),
              memory.as<uint32_t>());
        },
        5);
    read = std::max(read, kBytes / us * 1e6);
  }
  const double us =
      median_us([&] { multiply_registers<<<blocks, kThreads>>>(kRounds, memory.as<float>()); }, 5);
  const double flops = 2.0 * 16 * 8 * 16 * 8 * kRounds * blocks * (kThreads / 32);
  return {.read_bytes_per_s = read, .mma_flops_per_s = flops / us * 1e6};
}

}  // namespace ashlar::cuda
