#pragma once

// A weight matrix as a checkpoint stores it: elements, or codes of eight or four bits with scales.
//
//   bf16, f16, f32   values [N, K]
//   f8e4m3           values [N, K] codes, scales [ceil(N/128), ceil(K/128)] f32:
//                    w[n, k] = code * scales[(first_row + n) / 128, k / 128]
//   u8 (MXFP4)       values [N, K/2], two e2m1 codes a byte (the low four bits are the even k),
//                    scales [N, K/32] u8 exponents: w[n, k] = code * 2^(scales[n, k / 32] - 127)
//
// Values and scales are looked at where they lie (a mapped file), rows dense and any distance
// apart: every second row of interleaved matrices is a Matrix whose row strides are doubled.
//
// first_row serves matrices cut out of the middle of a block: rows 3072..3264 of a stored matrix
// are Matrix{its rows, its scales from row 24 on, 0}, rows 3264..3392 begin 64 rows into scale
// block 25.
//
// A matrix may lie in T equal chunks, each with a grid of scales that starts anew: training ranks
// joined end to end, of which one weight takes the same rows each. Its values are [T, N/T, K], its
// scales [T, blocks, ceil(K/128)], first_row is that of every chunk; products take it chunk by
// chunk, each into its columns of y (View::columns).

#include "tensor/view.h"

namespace ashlar {

constexpr int64_t kScaleBlock = 128;  // rows and columns that share an f8e4m3 scale
constexpr int64_t kScaleGroup = 32;   // columns that share a scale of MXFP4

struct Matrix : ConstView {
  ConstView scales;
  int64_t first_row = 0;  // of row 0 within its block of scales, below kScaleBlock; f8e4m3 only

  Matrix() = default;
  Matrix(const ConstView& values) : ConstView(values) {}
  Matrix(const View& values) : ConstView(values) {}
  Matrix(const ConstView& codes, const ConstView& of_codes, int64_t first = 0)
      : ConstView(codes), scales(of_codes), first_row(first) {}

  bool quantised() const { return dtype == DType::f8e4m3 || dtype == DType::u8; }
  int64_t width() const { return dtype == DType::u8 ? 2 * dim(1) : dim(1); }  // K
  int64_t chunks() const { return shape.rank == 3 ? dim(0) : 1; }
  Matrix chunk(int64_t c) const {
    if (shape.rank != 3) return *this;
    const auto plane = [c](const ConstView& view) {
      ConstView part(view.data + c * view.stride(0) * size_of(view.dtype), view.dtype,
                     {view.dim(1), view.dim(2)});
      part.strides = {view.stride(1), view.stride(2)};
      return part;
    };
    return quantised() ? Matrix(plane(*this), plane(scales), first_row) : Matrix(plane(*this));
  }
  // Of the codes and of the scales.
  int64_t bytes() const { return ConstView::bytes() + (quantised() ? scales.bytes() : 0); }
  // Scales of row n, one per kScaleBlock or kScaleGroup of K.
  const std::byte* scales_of(int64_t n) const {
    const int64_t row = dtype == DType::u8 ? n : (first_row + n) / kScaleBlock;
    return scales.data + row * scales.stride(0) * size_of(scales.dtype);
  }
  // Of a matrix that is no chunked one.
  Matrix rows(int64_t begin, int64_t end) const {
    DCHECK(shape.rank == 2);
    Matrix part = ConstView::rows(begin, end);
    if (!quantised()) return part;
    const int64_t unit = dtype == DType::u8 ? 1 : kScaleBlock;
    part.scales = scales.rows((first_row + begin) / unit, (first_row + end + unit - 1) / unit);
    part.first_row = (first_row + begin) % unit;
    return part;
  }
};

}  // namespace ashlar
