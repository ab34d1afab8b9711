#include "kernels/act/gate.h"

#include <cmath>

namespace ashlar {

void add_gated(ConstView gate, ConstView x, View y, Pool& pool) {
  pool.each(x.dim(0), [&](int64_t t, int) {
    const float share = 1.0f / (1.0f + std::exp(-*gate.row<float>(t)));
    const float* from = x.row<float>(t);
    float* to = y.row<float>(t);
    for (int64_t i = 0; i < x.dim(1); ++i) to[i] += share * from[i];
  });
}

}  // namespace ashlar
