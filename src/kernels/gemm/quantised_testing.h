#pragma once

// Random quantised matrices in rows wider than they need to be. What must not be read is NaN or
// out of reach of a sane result. Test code only.

#include <algorithm>

#include "kernels/testing.h"
#include "tensor/matrix.h"

namespace ashlar {

struct Quantised {
  std::vector<std::byte> codes, scales;
  Matrix matrix;

  Quantised(int64_t n, int64_t k, DType type, Random& random, int64_t slack = 0,
            int64_t first_row = 0) {
    type == DType::u8 ? mxfp4(n, k, random, slack) : e4m3(n, k, random, slack, first_row);
  }

 private:
  void e4m3(int64_t n, int64_t k, Random& random, int64_t slack, int64_t first_row) {
    codes.assign(static_cast<size_t>(n * (k + slack)), std::byte{0x7F});
    const int64_t grid_rows = (first_row + n + kScaleBlock - 1) / kScaleBlock;
    const int64_t grid_columns = (k + kScaleBlock - 1) / kScaleBlock;
    const auto values = random.normal(grid_rows * grid_columns, 0.01f);
    scales.resize(values.size() * 4);
    std::memcpy(scales.data(), values.data(), scales.size());
    ConstView view(codes.data(), DType::f8e4m3, {n, k});
    view.strides[0] = k + slack;
    for (int64_t row = 0; row < n; ++row) {
      for (int64_t i = 0; i < k; ++i) {
        const auto code = random.integer(0, 253);  // not NaN
        codes[static_cast<size_t>(row * (k + slack) + i)] =
            static_cast<std::byte>(code + (code >= 127));
      }
    }
    matrix =
        Matrix(view, ConstView(scales.data(), DType::f32, {grid_rows, grid_columns}), first_row);
  }
  void mxfp4(int64_t n, int64_t k, Random& random, int64_t slack) {
    const int64_t width = k / 2 + slack, groups = k / kScaleGroup;
    codes.resize(static_cast<size_t>(n * width));
    for (std::byte& code : codes) code = static_cast<std::byte>(random.integer(0, 255));
    scales.assign(static_cast<size_t>(n * (groups + slack)), std::byte{0xFF});
    for (int64_t row = 0; row < n; ++row) {
      for (int64_t g = 0; g < groups; ++g) {
        scales[static_cast<size_t>(row * (groups + slack) + g)] =
            static_cast<std::byte>(random.integer(118, 127));
      }
    }
    ConstView view(codes.data(), DType::u8, {n, k / 2});
    view.strides[0] = width;
    ConstView exponents(scales.data(), DType::u8, {n, groups});
    exponents.strides[0] = groups + slack;
    matrix = Matrix(view, exponents);
  }
};

}  // namespace ashlar
