#include <memory>

#include "kernels/bench.h"
#include "kernels/testing.h"

namespace ashlar {

std::vector<BenchCase> rms_norm_bench(const Ops& ops, Pool& pool) {
  struct Data {
    std::vector<float> x, weight, y;
  };
  std::vector<BenchCase> cases;
  Random random(1);
  for (const int64_t n_rows : {1, 512}) {
    const int64_t width = 4096;
    auto data = std::make_shared<Data>();
    *data = {random.normal(n_rows * width), random.normal(width),
             poisoned(static_cast<size_t>(n_rows * width))};
    const RmsNormParams params{.x = view(std::as_const(data->x), {n_rows, width}),
                               .weight = data->weight.data(),
                               .y = view(data->y, {n_rows, width})};
    cases.push_back({.op = "rms_norm",
                     .shape = fmt::format("T={} D={}", n_rows, width),
                     .roof = roof(params),
                     .run = [&ops, &pool, data, params] { ops.rms_norm(params, pool); }});
  }
  return cases;
}

}  // namespace ashlar
