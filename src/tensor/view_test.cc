#include "tensor/view.h"

#include <gtest/gtest.h>

#include <vector>

namespace ashlar {
namespace {

// Columns of a wider matrix as heads, and columns of each head: every element where it lies.
TEST(View, SplitColumnsLieWhereTheyLay) {
  const int64_t n_rows = 3, width = 20, first = 2, heads = 3, dim = 5;
  std::vector<float> values(n_rows * width);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  const View whole(reinterpret_cast<std::byte*>(values.data()), DType::f32, {n_rows, width});
  const View split = whole.columns(first, first + heads * dim).split(heads, dim);
  EXPECT_EQ(split.shape, (Shape{n_rows, heads, dim}));
  const View part = split.columns(1, 4);
  EXPECT_EQ(part.shape, (Shape{n_rows, heads, 3}));
  for (int64_t t = 0; t < n_rows; ++t) {
    for (int64_t h = 0; h < heads; ++h) {
      for (int64_t i = 0; i < 3; ++i) {
        EXPECT_EQ(part.row<float>(t)[h * part.stride(1) + i * part.stride(2)],
                  static_cast<float>(t * width + first + h * dim + 1 + i));
      }
    }
  }
  EXPECT_EQ(whole.split(1, width).shape, (Shape{n_rows, 1, width}));
  EXPECT_EQ(whole.columns(0, 0).split(1, 0).shape.elements(), 0);
}

}  // namespace
}  // namespace ashlar
