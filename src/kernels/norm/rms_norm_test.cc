#include "kernels/norm/rms_norm.h"

#include <gtest/gtest.h>

#include "kernels/testing.h"

namespace ashlar {
namespace {

TEST(RmsNorm, EveryIsaMatchesTheReference) {
  Pool pool(2);
  Random random(1);
  for (const int64_t width : {1, 3, 16, 37, 128, 1000}) {
    for (const int64_t n_rows : {1, 2, 65}) {
      const auto x = random.normal(n_rows * width);
      const auto weight = random.normal(width);
      std::vector<float> expected(x.size());
      RmsNormParams p{.x = view(x, {n_rows, width}), .weight = weight.data(), .eps = 1e-5f};
      p.y = view(expected, {n_rows, width});
      rms_norm_ref(p, pool);
      for (const Isa isa : available_isas()) {
        std::vector<float> actual = poisoned(x.size());
        p.y = view(actual, {n_rows, width});
        rms_norm_cpu(isa)(p, pool);
        EXPECT_LT(relative_error(actual, expected), 1e-6) << name(isa) << " width " << width;
      }
    }
  }
}

TEST(RmsNorm, ARowDoesNotDependOnItsNeighbours) {
  Pool pool(2);
  Random random(2);
  const int64_t width = 75;
  const auto x = random.normal(40 * width);
  const auto weight = random.normal(width);
  for (const Isa isa : available_isas()) {
    std::vector<float> together = poisoned(x.size());
    std::vector<float> alone = poisoned(x.size());
    const RmsNormParams all{
        .x = view(x, {40, width}), .weight = weight.data(), .y = view(together, {40, width})};
    rms_norm_cpu(isa)(all, pool);
    for (int64_t t = 0; t < 40; ++t) {
      RmsNormParams one = all;
      one.x = all.x.rows(t, t + 1);
      one.y = view(alone, {40, width}).rows(t, t + 1);
      rms_norm_cpu(isa)(one, pool);
    }
    EXPECT_EQ(together, alone) << name(isa);
  }
}

}  // namespace
}  // namespace ashlar
