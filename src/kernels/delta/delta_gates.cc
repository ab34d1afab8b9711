#include <algorithm>
#include <cmath>

#include "base/checked.h"
#include "kernels/delta/delta.h"

namespace ashlar {

void delta_gates(const DeltaGatesParams& p, Pool& pool) {
  constexpr int64_t kRows = 16;  // of a task: enough that handing it out costs less than doing it
  const int64_t n_rows = p.a.dim(0);
  pool.each(ceil_div(n_rows, kRows), [&](int64_t task, int) {
    for (int64_t t = task * kRows; t < std::min(n_rows, (task + 1) * kRows); ++t) {
      for (int64_t h = 0; h < p.a.dim(1); ++h) {
        const float a = p.a.row<float>(t)[h] + p.dt_bias[h];
        const float b = p.b.row<float>(t)[h];
        // log(1 + exp(a)) that overflows on neither side.
        const float softplus = std::max(a, 0.0f) + std::log1p(std::exp(-std::abs(a)));
        p.g.row<float>(t)[h] = -std::exp(p.a_log[h]) * softplus;
        p.beta.row<float>(t)[h] = 1.0f / (1.0f + std::exp(-b));
      }
    }
  });
}

}  // namespace ashlar
