#include <memory>

#include "kernels/bench.h"
#include "kernels/testing.h"

namespace ashlar {

std::vector<BenchCase> gated_norm_bench(const Ops& ops, Pool& pool) {
  struct Data {
    std::vector<float> x, gate, weight, y;
  };
  struct Setup {
    int64_t n_rows, heads, width;
  };
  std::vector<BenchCase> cases;
  Random random(1);
  for (const Setup& s : {Setup{1, 32, 128}, Setup{32, 32, 128}, Setup{512, 32, 128},
                         Setup{512, 32, 64}, Setup{512, 6, 20}}) {
    const Shape shape = {s.n_rows, s.heads, s.width};
    auto data = std::make_shared<Data>();
    *data = {random.normal(shape.elements()), random.normal(shape.elements()),
             random.normal(s.width), poisoned(static_cast<size_t>(shape.elements()))};
    const GatedNormParams params{.x = view(std::as_const(data->x), shape),
                                 .gate = view(std::as_const(data->gate), shape),
                                 .weight = data->weight.data(),
                                 .y = view(data->y, shape)};
    cases.push_back({.op = "gated_norm",
                     .shape = fmt::format("T={} H={} D={}", s.n_rows, s.heads, s.width),
                     .roof = roof(params),
                     .run = [&ops, &pool, data, params] { ops.gated_norm(params, pool); }});
  }
  return cases;
}

}  // namespace ashlar
