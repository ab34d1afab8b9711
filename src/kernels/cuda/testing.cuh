#pragma once

// What CUDA tests and benches share: device memory, whether there is a device, times with a cold
// L2, and how fast it reads. Test code only.

#include <cuda_runtime.h>

#include <algorithm>
#include <vector>

#include "kernels/cuda/launch.cuh"

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

// Median microseconds of `run` on the default stream, L2 emptied before each repetition.
template <class Run>
double median_us(Run run, int repetitions = 21, bool clean = false) {
  static constexpr size_t kFlushBytes = size_t{256} << 20;
  const DeviceBytes flush(kFlushBytes);
  std::vector<cudaEvent_t> events(static_cast<size_t>(2 * repetitions));
  for (cudaEvent_t& event : events) CHECK_CUDA(cudaEventCreate(&event));
  for (int i = -2; i < repetitions; ++i) {
    CHECK_CUDA(cudaMemsetAsync(flush.get(), i, kFlushBytes));
    if (clean)
      read_everything<<<256, 512>>>(flush.as<uint4>(), kFlushBytes / sizeof(uint4),
                                    flush.as<uint32_t>());
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

// Bytes a second of plain reads.
inline double measure_read() {
  constexpr size_t kBytes = size_t{4} << 30;
  constexpr int kThreads = 512;
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
  return read;
}

}  // namespace ashlar::cuda
