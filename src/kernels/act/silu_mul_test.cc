#include "kernels/act/silu_mul.h"

#include <gtest/gtest.h>

#include "kernels/testing.h"

namespace ashlar {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr GateKind kKinds[] = {GateKind::silu, GateKind::gelu, GateKind::clamped,
                               GateKind::sigmoid};
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// silu(gate) * 1 of every value, by one instruction set.
std::vector<float> silu(Isa isa, const std::vector<float>& gate) {
  Pool pool(1);
  const auto n = static_cast<int64_t>(gate.size());
  const std::vector<float> up(gate.size(), 1.0f);
  std::vector<float> y = poisoned(gate.size());
  silu_mul_cpu(isa)({.gate = view(gate, {1, n}), .up = view(up, {1, n}), .y = view(y, {1, n})},
                    pool);
  return y;
}

TEST(SiluMul, EveryIsaMatchesTheReference) {
  Pool pool(2);
  Random random(1);
  for (const int64_t width : {1, 3, 16, 37, 128, 4096, 4097, 9000}) {
    for (const int64_t n_rows : {1, 2, 17}) {
      const auto gate = random.normal(n_rows * width, 4.0f);
      const auto up = random.normal(n_rows * width);
      std::vector<float> expected(gate.size());
      SiluMulParams p{.gate = view(gate, {n_rows, width}), .up = view(up, {n_rows, width})};
      p.y = view(expected, {n_rows, width});
      silu_mul_ref(p, pool);
      for (const Isa isa : available_isas()) {
        std::vector<float> actual = poisoned(gate.size());
        p.y = view(actual, {n_rows, width});
        silu_mul_cpu(isa)(p, pool);
        EXPECT_LT(relative_error(actual, expected), 2e-7) << name(isa) << " width " << width;
      }
    }
  }
}

// silu is x / (1 + exp(-x)), so each element tells the error of exp, from tiny to huge.
TEST(SiluMul, EachElementIsAccurateOverTheWholeRange) {
  std::vector<float> gate;
  for (float x = -87.0f; x < 100.0f; x += 0.0037f) gate.push_back(x);
  for (float x = 1e-38f; x < 1e38f; x *= 1.7f) gate.push_back(x);
  for (const Isa isa : available_isas()) {
    const auto actual = silu(isa, gate);
    double worst = 0;
    for (size_t i = 0; i < gate.size(); ++i) {
      const double expected = gate[i] / (1.0 + std::exp(-static_cast<double>(gate[i])));
      worst = std::max(worst, std::abs(actual[i] - expected) / std::abs(expected));
    }
    EXPECT_LT(worst, 4e-7) << name(isa);
  }
}

// Gates and ups from tiny to huge, and the ends, through the other functions.
TEST(SiluMul, EveryGatingMatchesItsDefinition) {
  Pool pool(2);
  std::vector<float> gate, up;
  for (const float g : {-1e20f, -300.0f, -9.0f, -1.0f, -1e-3f, 0.0f, 0.3f, 2.0f, 6.9f, 7.1f, 1e20f})
    for (const float u : {-1e10f, -7.5f, -6.5f, -1.0f, 0.0f, 0.7f, 6.0f, 8.0f, 1e10f}) {
      gate.push_back(g), up.push_back(u);
    }
  const auto n = static_cast<int64_t>(gate.size());
  for (const GateKind kind : kKinds) {
    const Gating gating = {.kind = kind, .alpha = 1.5f, .limit = 6.0f};
    for (const Isa isa : available_isas()) {
      std::vector<float> y = poisoned(gate.size());
      silu_mul_cpu(isa)({.gate = view(std::as_const(gate), {1, n}),
                         .up = view(std::as_const(up), {1, n}),
                         .y = view(y, {1, n}),
                         .gating = gating},
                        pool);
      for (size_t i = 0; i < y.size(); ++i) {
        const double expected = gated(gating, gate[i], up[i]);
        EXPECT_NEAR(y[i], expected, 5e-6 * std::abs(expected) + 1e-30)
            << name(isa) << " gate " << gate[i] << " up " << up[i];
      }
    }
  }
}

TEST(SiluMul, NaNGoesThroughEveryGating) {
  Pool pool(1);
  const std::vector<float> gate = {kNan, 1.0f, kNan, 1.0f}, up = {1.0f, kNan, kNan, 1.0f};
  for (const GateKind kind : kKinds) {
    for (const Isa isa : available_isas()) {
      std::vector<float> y(4);
      silu_mul_cpu(isa)({.gate = view(gate, {1, 4}),
                         .up = view(up, {1, 4}),
                         .y = view(y, {1, 4}),
                         .gating = {.kind = kind}},
                        pool);
      for (size_t i = 0; i < 4; ++i) EXPECT_EQ(std::isnan(y[i]), i < 3) << name(isa) << " " << i;
    }
  }
}

TEST(SiluMul, Ends) {
  for (const Isa isa : available_isas()) {
    const auto y = silu(isa, {0.0f, -100.0f, -1e30f, 1e30f, kInfinity, kNan, -88.5f, -95.0f});
    EXPECT_EQ(y[0], 0.0f) << name(isa);
    EXPECT_NEAR(y[1], 0.0f, 1e-36) << name(isa);
    EXPECT_EQ(y[2], 0.0f) << name(isa);
    EXPECT_EQ(y[3], 1e30f) << name(isa);
    EXPECT_EQ(y[4], kInfinity) << name(isa);
    EXPECT_TRUE(std::isnan(y[5])) << name(isa);
    EXPECT_NEAR(y[6], 0.0f, 1e-35) << name(isa);
    EXPECT_NEAR(y[7], 0.0f, 1e-35) << name(isa);
  }
}

// An element's bits depend neither on the rows around it nor on its place in the row.
TEST(SiluMul, AnElementDoesNotDependOnItsPlace) {
  Pool pool(2);
  Random random(2);
  const int64_t width = 75, n_rows = 40;
  const auto gate = random.normal(n_rows * width);
  const auto up = random.normal(n_rows * width);
  for (const Isa isa : available_isas()) {
    std::vector<float> together = poisoned(gate.size());
    std::vector<float> alone = poisoned(gate.size());
    silu_mul_cpu(isa)({.gate = view(gate, {n_rows, width}),
                       .up = view(up, {n_rows, width}),
                       .y = view(together, {n_rows, width})},
                      pool);
    const auto elements = n_rows * width;
    silu_mul_cpu(isa)({.gate = view(gate, {elements, 1}),
                       .up = view(up, {elements, 1}),
                       .y = view(alone, {elements, 1})},
                      pool);
    EXPECT_EQ(together, alone) << name(isa);
  }
}

// Rows of a wider buffer (a fused gate-up projection), written in place; the rest stays.
TEST(SiluMul, StridedRowsInPlace) {
  Pool pool(2);
  Random random(3);
  const int64_t width = 37, n_rows = 5;
  const auto fused = random.normal(n_rows * 2 * width);
  std::vector<float> expected(static_cast<size_t>(n_rows * width));
  const auto both = view(fused, {n_rows, 2 * width});
  SiluMulParams p{.gate = both.columns(0, width),
                  .up = both.columns(width, 2 * width),
                  .y = view(expected, {n_rows, width})};
  silu_mul_ref(p, pool);
  for (const Isa isa : available_isas()) {
    for (const bool over_gate : {true, false}) {
      std::vector<float> work = fused;
      const View rows = view(work, {n_rows, 2 * width});
      const View gate = rows.columns(0, width), up = rows.columns(width, 2 * width);
      const View y = over_gate ? gate : up;
      const View kept = over_gate ? up : gate;
      silu_mul_cpu(isa)({.gate = gate, .up = up, .y = y}, pool);
      for (int64_t t = 0; t < n_rows; ++t) {
        for (int64_t i = 0; i < width; ++i) {
          const float want = expected[static_cast<size_t>(t * width + i)];
          EXPECT_NEAR(y.row<float>(t)[i], want, 1e-6 * std::abs(want)) << name(isa);
          const int64_t column = over_gate ? width + i : i;
          EXPECT_EQ(kept.row<float>(t)[i], fused[static_cast<size_t>(t * 2 * width + column)]);
        }
      }
    }
  }
}

}  // namespace
}  // namespace ashlar
