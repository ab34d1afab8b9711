#include "model/layers.h"

#include <cstring>

namespace ashlar {

void StepContext::begin_branch(const ConstView& norm) const {
  normalize(scratch.hidden(n_tokens), norm, scratch.normed(n_tokens));
  const View sum = output();
  if (spec.branch_norms) std::memset(sum.data, 0, static_cast<size_t>(sum.bytes()));
}

void StepContext::end_branch(const ConstView& post_norm) const {
  if (!spec.branch_norms) return;
  const View sum = output(), hidden = scratch.hidden(n_tokens);
  normalize(sum, post_norm, sum);
  pool.each(n_tokens, [&](int64_t t, int) {
    const float* from = sum.row<float>(t);
    float* to = hidden.row<float>(t);
    for (int64_t i = 0; i < hidden.dim(1); ++i) to[i] += from[i];
  });
}

void StepContext::multiply(ConstView x, const Matrix& w, const ConstView& bias, View y,
                           bool accumulate) const {
  const int64_t n = y.dim(1) / w.chunks();
  for (int64_t c = 0; c < w.chunks(); ++c) {
    ops.gemm({.x = x,
              .w = w.chunk(c),
              .bias = bias ? floats(bias) + c * n : nullptr,
              .y = y.columns(c * n, (c + 1) * n),
              .accumulate = accumulate,
              .compute = w.dtype == DType::bf16 || w.quantised() ? compute : DType::f32,
              .workspace = scratch.workspace()},
             pool);
  }
}

void StepContext::normalize(ConstView x, const ConstView& weight, View y) const {
  normalize(x, weight, spec.norm_eps, y);
}

void StepContext::normalize(ConstView x, const ConstView& weight, float eps, View y) const {
  ops.rms_norm({.x = x, .weight = floats(weight), .eps = eps, .y = y}, pool);
}

void StepContext::rotate(const View& heads, int32_t rope, int32_t offset) const {
  const RopeSpec& form = spec.ropes[static_cast<size_t>(rope)];
  const bool halves = form.style == RopeStyle::halves;
  ops.rope({.x = heads,
            .cos_sin = scratch.cos_sin(static_cast<size_t>(rope), n_tokens),
            .offset = offset,
            .pairing = halves ? RopePairing::halves : RopePairing::interleaved},
           pool);
}

// The heads of a row at stride(1): one head of every row.
template <class V>
static V head_of(const V& x, int64_t h) {
  V rows(x.data + h * x.stride(1) * size_of(x.dtype), x.dtype, {x.dim(0), x.dim(2)});
  rows.strides[0] = x.stride(0);
  return rows;
}

void StepContext::multiply_heads(ConstView x, const ConstView& w, View y) const {
  for (int64_t h = 0; h < w.dim(0); ++h) {
    const ConstView matrix(w.data + h * w.stride(0) * size_of(w.dtype), w.dtype,
                           {w.dim(1), w.dim(2)});
    multiply(head_of(x, h), matrix, {}, head_of(y, h));
  }
}

}  // namespace ashlar
