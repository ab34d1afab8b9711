#pragma once

// View: a strided look at elements somebody else owns (a Buffer, a mapped file, a page). Copying a
// view copies the look. A ConstView promises not to write. Strides are in elements; the last
// dimension is usually dense (stride 1), and kernels say so where they need it.

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "base/check.h"
#include "tensor/dtype.h"

namespace ashlar {

constexpr int kMaxRank = 4;

struct Shape {
  std::array<int64_t, kMaxRank> dims = {};
  int rank = 0;

  Shape() = default;
  Shape(std::initializer_list<int64_t> list) {
    CHECK(list.size() <= kMaxRank, "rank {}", list.size());
    for (const int64_t dim : list) dims[static_cast<size_t>(rank++)] = dim;
  }
  int64_t operator[](int i) const { return dims[static_cast<size_t>(i)]; }
  int64_t elements() const {
    int64_t n = 1;
    for (int i = 0; i < rank; ++i) n *= (*this)[i];
    return n;
  }
  bool operator==(const Shape&) const = default;
  std::string text() const;  // "[4096, 1024]"
};

template <class Byte>
struct BasicView {
  Byte* data = nullptr;
  DType dtype = DType::f32;
  Shape shape;
  std::array<int64_t, kMaxRank> strides = {};

  BasicView() = default;
  // A dense, row-major view.
  BasicView(Byte* bytes, DType type, Shape dims) : data(bytes), dtype(type), shape(dims) {
    int64_t stride = 1;
    for (int i = shape.rank - 1; i >= 0; --i) {
      strides[static_cast<size_t>(i)] = stride;
      stride *= shape[i];
    }
  }
  // A View is a ConstView, never the other way round.
  operator BasicView<const std::byte>() const {
    BasicView<const std::byte> view;
    view.data = data, view.dtype = dtype, view.shape = shape, view.strides = strides;
    return view;
  }

  explicit operator bool() const { return data != nullptr; }
  int64_t dim(int i) const { return shape[i]; }
  int64_t stride(int i) const { return strides[static_cast<size_t>(i)]; }
  int64_t bytes() const { return shape.elements() * size_of(dtype); }

  // The first element of row i of dimension 0, as T (const T for a ConstView).
  // REQUIRES size_of(dtype) == sizeof(T).
  template <class T>
  auto* row(int64_t i) const {
    using Element = std::conditional_t<std::is_const_v<Byte>, const T, T>;
    DCHECK(size_of(dtype) == static_cast<int64_t>(sizeof(T)), "{} viewed as {} bytes", name(dtype),
           sizeof(T));
    return reinterpret_cast<Element*>(data) + i * strides[0];
  }
  // Rows [begin, end) of dimension 0.
  BasicView rows(int64_t begin, int64_t end) const {
    DCHECK(0 <= begin && begin <= end && end <= shape[0]);
    BasicView part = *this;
    part.data += begin * strides[0] * size_of(dtype);
    part.shape.dims[0] = end - begin;
    return part;
  }
  // Columns [begin, end) of the last dimension; strides stay.
  BasicView columns(int64_t begin, int64_t end) const {
    const auto last = static_cast<size_t>(shape.rank - 1);
    DCHECK(0 <= begin && begin <= end && end <= shape.dims[last]);
    BasicView part = *this;
    part.data += begin * strides[last] * size_of(dtype);
    part.shape.dims[last] = end - begin;
    return part;
  }
  // The last dimension, n * width long, as two: [n, width]. REQUIRES rank < kMaxRank.
  BasicView split(int64_t n, int64_t width) const {
    const auto last = static_cast<size_t>(shape.rank - 1);
    DCHECK(shape.rank < kMaxRank && shape.dims[last] == n * width, "{} as {} x {}", shape.text(), n,
           width);
    BasicView part = *this;
    part.shape.rank = shape.rank + 1;
    part.shape.dims[last] = n;
    part.shape.dims[last + 1] = width;
    part.strides[last] = width * strides[last];
    part.strides[last + 1] = strides[last];
    return part;
  }
};

using View = BasicView<std::byte>;
using ConstView = BasicView<const std::byte>;

}  // namespace ashlar
