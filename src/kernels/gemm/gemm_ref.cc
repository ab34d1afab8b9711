#include "kernels/gemm/gemm.h"

namespace ashlar {
namespace {

template <class W>
double dot(const float* x, const W* w, int64_t k, bool round_x) {
  double sum = 0;
  for (int64_t i = 0; i < k; ++i) {
    const float value = round_x ? to_float(to_bf16(x[i])) : x[i];
    sum += static_cast<double>(value) * to_float(w[i]);
  }
  return sum;
}

template <class W>
void product(const GemmParams& p) {
  const bool round_x = p.compute == DType::bf16;
  for (int64_t m = 0; m < p.x.dim(0); ++m) {
    float* y = p.y.row<float>(m);
    for (int64_t n = 0; n < p.w.dim(0); ++n) {
      double sum = dot(p.x.row<float>(m), p.w.row<W>(n), p.x.dim(1), round_x);
      if (p.bias) sum += p.bias[n];
      y[n] = p.accumulate ? y[n] + static_cast<float>(sum) : static_cast<float>(sum);
    }
  }
}

}  // namespace

void gemm_ref(const GemmParams& p, Pool&) {
  switch (p.w.dtype) {
    case DType::f32: return product<float>(p);
    case DType::bf16: return product<Bf16>(p);
    case DType::f16: return product<F16>(p);
    default: CHECK(false, "gemm weights of {}", name(p.w.dtype));
  }
}

Roof roof(const GemmParams& p) {
  const auto m = static_cast<double>(p.x.dim(0));
  const auto k = static_cast<double>(p.x.dim(1));
  const auto n = static_cast<double>(p.w.dim(0));
  const double y_bytes = m * n * (p.accumulate ? 8 : 4) + (p.bias ? n * 4 : 0);
  return {.bytes = n * k * static_cast<double>(size_of(p.w.dtype)) + m * k * 4 + y_bytes,
          .flops = 2 * m * n * k};
}

}  // namespace ashlar
