#include <gtest/gtest.h>

#include <cmath>

#include "kernels/act/silu_mul.h"
#include "kernels/exp.h"
#include "kernels/testing.h"

namespace ashlar {
namespace {

// Units in the last place of the float nearest to `expected`.
double ulps(float actual, double expected) {
  const auto nearest = static_cast<float>(expected);
  const double unit = std::nextafter(nearest, std::numeric_limits<float>::infinity()) - nearest;
  return std::abs(actual - expected) / unit;
}

TEST(Exp, PlainIsWithinTwoUlpBelowZero) {
  double worst = 0;
  for (float x = -87.0f; x < 0; x += 1e-4f) {
    worst = std::max(worst, ulps(exp_not_positive(x), std::exp(static_cast<double>(x))));
  }
  for (float x = -1e-30f; x > -87.0f; x *= 1.001f) {
    worst = std::max(worst, ulps(exp_not_positive(x), std::exp(static_cast<double>(x))));
  }
  EXPECT_LT(worst, 2.0);
}

TEST(Exp, PlainEnds) {
  EXPECT_EQ(exp_not_positive(0.0f), 1.0f);
  EXPECT_EQ(exp_not_positive(-0.0f), 1.0f);
  EXPECT_EQ(exp_not_positive(-87.5f), 0.0f);
  EXPECT_EQ(exp_not_positive(-1e30f), 0.0f);
  EXPECT_EQ(exp_not_positive(-std::numeric_limits<float>::infinity()), 0.0f);
  EXPECT_EQ(exp_not_positive(std::numeric_limits<float>::quiet_NaN()), 0.0f);
}

}  // namespace
}  // namespace ashlar
