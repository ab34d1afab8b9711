#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include "kernels/norm/rms_norm_cuda.h"
#include "kernels/testing.h"

namespace ashlar {
namespace {

// Device memory with the contents of a vector.
class DeviceFloats {
 public:
  explicit DeviceFloats(const std::vector<float>& values) : bytes_(values.size() * sizeof(float)) {
    CHECK(cudaMalloc(&data_, bytes_) == cudaSuccess);
    CHECK(cudaMemcpy(data_, values.data(), bytes_, cudaMemcpyHostToDevice) == cudaSuccess);
  }
  ~DeviceFloats() { cudaFree(data_); }
  DeviceFloats(const DeviceFloats&) = delete;
  DeviceFloats& operator=(const DeviceFloats&) = delete;

  const float* get() const { return static_cast<const float*>(data_); }
  View view(Shape shape) const { return View(static_cast<std::byte*>(data_), DType::f32, shape); }
  std::vector<float> read() const {
    std::vector<float> values(bytes_ / sizeof(float));
    CHECK(cudaMemcpy(values.data(), data_, bytes_, cudaMemcpyDeviceToHost) == cudaSuccess);
    return values;
  }

 private:
  void* data_ = nullptr;
  size_t bytes_;
};

TEST(RmsNormCuda, MatchesTheReference) {
  int n_devices = 0;
  if (cudaGetDeviceCount(&n_devices) != cudaSuccess || n_devices == 0)
    GTEST_SKIP() << "no GPU here";
  Pool pool(1);
  Random random(1);
  for (const int64_t width : {1, 31, 256, 1000, 7168}) {
    for (const int64_t n_rows : {0, 1, 3, 513}) {
      const std::vector<float> x = random.normal(n_rows * width + 1), weight = random.normal(width);
      std::vector<float> expected(x.size());
      RmsNormParams p{.x = view(x, {n_rows, width}), .weight = weight.data(), .eps = 1e-5f};
      p.y = view(expected, {n_rows, width});
      rms_norm_ref(p, pool);
      const DeviceFloats device_x(x), device_weight(weight), device_y(poisoned(x.size()));
      p.x = device_x.view({n_rows, width});
      p.weight = device_weight.get();
      p.y = device_y.view({n_rows, width});
      rms_norm_cuda(p, nullptr);
      std::vector<float> actual = device_y.read();
      EXPECT_TRUE(std::isnan(actual.back())) << "wrote past the last row";
      actual.pop_back();
      expected.pop_back();
      EXPECT_LT(relative_error(actual, expected), 1e-6) << n_rows << " x " << width;
    }
  }
}

}  // namespace
}  // namespace ashlar
