#include "model/layers.h"

namespace ashlar {

void StepContext::multiply(ConstView x, const ConstView& w, const ConstView& bias, View y,
                           bool accumulate) const {
  ops.gemm({.x = x,
            .w = w,
            .bias = floats(bias),
            .y = y,
            .accumulate = accumulate,
            .compute = w.dtype == DType::bf16 ? compute : DType::f32,
            .workspace = scratch.workspace()},
           pool);
}

void StepContext::normalize(ConstView x, const ConstView& weight, View y) const {
  ops.rms_norm({.x = x, .weight = floats(weight), .eps = spec.norm_eps, .y = y}, pool);
}

}  // namespace ashlar
