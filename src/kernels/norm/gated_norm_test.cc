#include "kernels/norm/gated_norm.h"

#include <gtest/gtest.h>

#include "kernels/testing.h"

namespace ashlar {
namespace {

TEST(GatedNorm, EveryIsaMatchesTheReference) {
  Pool pool(2);
  Random random(1);
  for (const int64_t width : {1, 32, 37, 48, 128}) {
    for (const int64_t n_rows : {0, 1, 9}) {
      const Shape shape = {n_rows, 3, width};
      const auto x = random.normal(shape.elements());
      const auto gate = random.normal(shape.elements(), 4.0f);
      const auto weight = random.normal(width);
      std::vector<float> expected(x.size());
      GatedNormParams p{.x = view(x, shape), .gate = view(gate, shape), .weight = weight.data()};
      p.y = view(expected, shape);
      gated_norm_ref(p, pool);
      for (const Isa isa : available_isas()) {
        std::vector<float> actual = poisoned(x.size());
        p.y = view(actual, shape);
        gated_norm_cpu(isa)(p, pool);
        EXPECT_LE(relative_error(actual, expected), 1e-6) << name(isa) << " width " << width;
      }
    }
  }
}

// Neighbours, threads and writing over the input change nothing.
TEST(GatedNorm, AHeadStandsAlone) {
  Random random(2);
  const int64_t n_rows = 21, heads = 4, width = 48;
  const Shape shape = {n_rows, heads, width};
  const auto x = random.normal(shape.elements()), gate = random.normal(shape.elements());
  const auto weight = random.normal(width);
  Pool two(2), three(3);
  for (const Isa isa : available_isas()) {
    std::vector<float> together = poisoned(x.size()), alone = poisoned(x.size()), in_place = x;
    GatedNormParams p{.x = view(x, shape), .gate = view(gate, shape), .weight = weight.data()};
    p.y = view(together, shape);
    gated_norm_cpu(isa)(p, two);
    for (int64_t t = 0; t < n_rows; ++t) {
      GatedNormParams one = p;
      one.x = p.x.rows(t, t + 1), one.gate = p.gate.rows(t, t + 1);
      one.y = view(alone, shape).rows(t, t + 1);
      gated_norm_cpu(isa)(one, two);
    }
    EXPECT_EQ(together, alone) << name(isa);
    p.x = p.y = view(in_place, shape);
    gated_norm_cpu(isa)(p, three);
    EXPECT_EQ(together, in_place) << name(isa);
  }
}

}  // namespace
}  // namespace ashlar
