#include "kernels/gemm/gemm.h"

#include "kernels/gemm/codes.h"

namespace ashlar {
namespace {

// at(n, k) of each kind of weights.
template <class W>
auto elements(const Matrix& w) {
  return [&w](int64_t n, int64_t k) { return static_cast<double>(to_float(w.row<W>(n)[k])); };
}

auto e4m3(const Matrix& w) {
  return [&w](int64_t n, int64_t k) {
    const auto* scales = reinterpret_cast<const float*>(w.scales_of(n));
    return static_cast<double>(to_float(w.row<F8E4M3>(n)[k])) * scales[k / kScaleBlock];
  };
}

auto mxfp4(const Matrix& w) {
  return [&w](int64_t n, int64_t k) {
    const uint8_t pair = w.row<uint8_t>(n)[k / 2];
    const auto scale = static_cast<uint8_t>(w.scales_of(n)[k / kScaleGroup]);
    const uint8_t code = k % 2 == 0 ? pair & 15 : pair >> 4;
    return static_cast<double>(from_e2m1(code)) * from_e8m0(scale);
  };
}

template <class At>
double dot(const float* x, const At& w, int64_t n, int64_t k, bool round_x) {
  double sum = 0;
  for (int64_t i = 0; i < k; ++i) {
    const float value = round_x ? to_float(to_bf16(x[i])) : x[i];
    sum += static_cast<double>(value) * w(n, i);
  }
  return sum;
}

template <class At>
void product(const GemmParams& p, const At& w) {
  const bool round_x = p.compute == DType::bf16;
  for (int64_t m = 0; m < p.x.dim(0); ++m) {
    float* y = p.y.row<float>(m);
    for (int64_t n = 0; n < p.w.dim(0); ++n) {
      double sum = dot(p.x.row<float>(m), w, n, p.x.dim(1), round_x);
      if (p.bias) sum += p.bias[n];
      y[n] = p.accumulate ? y[n] + static_cast<float>(sum) : static_cast<float>(sum);
    }
  }
}

}  // namespace

void gemm_ref(const GemmParams& p, Pool&) {
  switch (p.w.dtype) {
    case DType::f32: return product(p, elements<float>(p.w));
    case DType::bf16: return product(p, elements<Bf16>(p.w));
    case DType::f16: return product(p, elements<F16>(p.w));
    case DType::f8e4m3: return product(p, e4m3(p.w));
    case DType::u8: return product(p, mxfp4(p.w));
    default: CHECK(false, "gemm weights of {}", name(p.w.dtype));
  }
}

Roof roof(const GemmParams& p) {
  const auto m = static_cast<double>(p.x.dim(0));
  const auto k = static_cast<double>(p.x.dim(1));
  const auto n = static_cast<double>(p.w.dim(0));
  const double y_bytes = m * n * (p.accumulate ? 8 : 4) + (p.bias ? n * 4 : 0);
  return {.bytes = static_cast<double>(p.w.bytes()) + m * k * 4 + y_bytes, .flops = 2 * m * n * k};
}

}  // namespace ashlar
