#include "kernels/act/gate.h"

#include <cmath>

namespace ashlar {
namespace {

float sigmoid(float x) { return 1.0f / (1.0f + std::exp(-x)); }

}  // namespace

void sigmoid_mul(ConstView gate, ConstView x, View y, Pool& pool) {
  pool.each(x.dim(0), [&](int64_t t, int) {
    const float* g = gate.row<float>(t);
    const float* from = x.row<float>(t);
    float* to = y.row<float>(t);
    for (int64_t i = 0; i < x.dim(1); ++i) to[i] = sigmoid(g[i]) * from[i];
  });
}

void add_gated(ConstView gate, ConstView x, View y, Pool& pool) {
  pool.each(x.dim(0), [&](int64_t t, int) {
    const float share = sigmoid(*gate.row<float>(t));
    const float* from = x.row<float>(t);
    float* to = y.row<float>(t);
    for (int64_t i = 0; i < x.dim(1); ++i) to[i] += share * from[i];
  });
}

}  // namespace ashlar
