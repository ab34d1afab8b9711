#include "kernels/rope/rope.h"

#include <gtest/gtest.h>

#include "kernels/testing.h"

namespace ashlar {
namespace {

constexpr RopePairing kPairings[] = {RopePairing::halves, RopePairing::interleaved};

std::vector<float> frequencies(int64_t half, float theta = 10000.0f) {
  std::vector<float> out;
  for (int64_t i = 0; i < half; ++i) {
    out.push_back(std::pow(theta, -static_cast<float>(i) / static_cast<float>(half)));
  }
  return out;
}

// Tables of positions first, first + 1, ...
std::vector<float> table(int64_t n_rows, int64_t half, int32_t first = 0, float amplitude = 1.0f) {
  std::vector<int32_t> positions;
  for (int64_t t = 0; t < n_rows; ++t) positions.push_back(first + static_cast<int32_t>(t));
  std::vector<float> cos_sin = poisoned(static_cast<size_t>(n_rows * half * 2));
  rope_table(positions, frequencies(half), amplitude, view(cos_sin, {n_rows, 2 * half}));
  return cos_sin;
}

TEST(RopeTable, HoldsCosinesThenSinesTimesTheAmplitude) {
  const std::vector<int32_t> positions = {0, 7, 123456};
  const std::vector<float> inv_freq = {1.0f, 0.1f, 0.003f};
  std::vector<float> cos_sin = poisoned(3 * 6);
  rope_table(positions, inv_freq, 1.5f, view(cos_sin, {3, 6}));
  for (size_t t = 0; t < 3; ++t) {
    for (size_t i = 0; i < 3; ++i) {
      const float angle = static_cast<float>(positions[t]) * inv_freq[i];
      EXPECT_NEAR(cos_sin[t * 6 + i], 1.5 * std::cos(static_cast<double>(angle)), 3e-7);
      EXPECT_NEAR(cos_sin[t * 6 + 3 + i], 1.5 * std::sin(static_cast<double>(angle)), 3e-7);
    }
  }
  EXPECT_EQ(cos_sin[0], 1.5f);
  EXPECT_EQ(cos_sin[3], 0.0f);
}

TEST(RopeTable, RefusesATableOfAnotherSize) {
  std::vector<float> cos_sin(6);
  EXPECT_DEATH(rope_table(std::vector<int32_t>{1, 2}, frequencies(3), 1, view(cos_sin, {1, 6})),
               "for 2 positions and 3 frequencies");
}

// The two pairings of (1, 2, 3, 4) turned by a quarter, written out by hand.
TEST(Rope, PairsWhatTheNamesSay) {
  Pool pool(1);
  const std::vector<float> quarter = {0, 0, 1, 1};
  std::vector<float> x = {1, 2, 3, 4};
  rope_ref({.x = view(x, {1, 1, 4}), .cos_sin = view(quarter, {1, 4})}, pool);
  EXPECT_EQ(x, (std::vector<float>{-3, -4, 1, 2}));
  x = {1, 2, 3, 4};
  rope_ref({.x = view(x, {1, 1, 4}),
            .cos_sin = view(quarter, {1, 4}),
            .pairing = RopePairing::interleaved},
           pool);
  EXPECT_EQ(x, (std::vector<float>{-2, 1, -4, 3}));
}

struct Case {
  int64_t n_rows, n_heads, head_dim, half;
  int32_t offset;
};

std::vector<Case> cases() {
  std::vector<Case> all = {{1, 1, 2, 1, 0},      {3, 2, 64, 32, 0},    {2, 5, 192, 32, 0},
                           {2, 3, 192, 32, 128}, {70, 16, 128, 64, 0}, {4, 1, 80, 40, 0}};
  Random random(4);
  for (int i = 0; i < 20; ++i) {
    const int64_t half = random.integer(1, 70), rest = random.integer(0, 20);
    all.push_back({random.integer(1, 9), random.integer(1, 6), 2 * half + rest, half,
                   static_cast<int32_t>(random.integer(0, rest))});
  }
  return all;
}

// Heads lie in rows of a wider buffer (fused projections). What rope must not touch, between heads'
// turned dims and between rows, is compared bit for bit.
TEST(Rope, EveryIsaMatchesTheReferenceAndTouchesNothingElse) {
  Pool pool(2);
  Random random(1);
  for (const Case& c : cases()) {
    const int64_t row = c.n_heads * c.head_dim + 3;
    const auto x = random.normal(c.n_rows * row);
    const auto cos_sin = table(c.n_rows, c.half, 1000);
    for (const RopePairing pairing : kPairings) {
      const auto params = [&](std::vector<float>& data) {
        RopeParams p{.x = view(data, {c.n_rows, c.n_heads, c.head_dim}),
                     .cos_sin = view(cos_sin, {c.n_rows, 2 * c.half}),
                     .offset = c.offset,
                     .pairing = pairing};
        p.x.strides[0] = row;
        return p;
      };
      std::vector<float> expected = x;
      expected.resize(static_cast<size_t>(c.n_rows * row + c.n_heads * c.head_dim));
      std::vector<float> start = expected;
      rope_ref(params(expected), pool);
      for (const Isa isa : available_isas()) {
        std::vector<float> actual = start;
        rope_cpu(isa)(params(actual), pool);
        EXPECT_LT(relative_error(actual, expected), 2e-7) << name(isa) << " half " << c.half;
        for (size_t i = 0; i < start.size(); ++i) {
          const auto in_row = static_cast<int64_t>(i) % row;
          const int64_t dim = in_row % c.head_dim - c.offset;
          const bool turned = in_row < c.n_heads * c.head_dim && dim >= 0 && dim < 2 * c.half &&
                              static_cast<int64_t>(i) < c.n_rows * row;
          if (turned) continue;
          ASSERT_EQ(actual[i], start[i]) << name(isa) << " element " << i;
        }
      }
    }
  }
}

TEST(Rope, ARowDoesNotDependOnItsNeighbours) {
  Pool pool(2);
  Random random(2);
  const int64_t n_rows = 33, n_heads = 3, head_dim = 48, half = 21;
  const auto x = random.normal(n_rows * n_heads * head_dim);
  const auto cos_sin = table(n_rows, half);
  for (const Isa isa : available_isas()) {
    for (const RopePairing pairing : kPairings) {
      std::vector<float> together = x, alone = x;
      const RopeParams all{.x = view(together, {n_rows, n_heads, head_dim}),
                           .cos_sin = view(cos_sin, {n_rows, 2 * half}),
                           .offset = 4,
                           .pairing = pairing};
      rope_cpu(isa)(all, pool);
      for (int64_t t = 0; t < n_rows; ++t) {
        RopeParams one = all;
        one.x = view(alone, {n_rows, n_heads, head_dim}).rows(t, t + 1);
        one.cos_sin = all.cos_sin.rows(t, t + 1);
        rope_cpu(isa)(one, pool);
      }
      EXPECT_EQ(together, alone) << name(isa);
    }
  }
}

// What the embedding is for: the product of a turned query and a turned key depends on the distance
// of their positions alone.
TEST(Rope, ProductsDependOnTheDistanceAlone) {
  Pool pool(1);
  Random random(3);
  const int64_t half = 16, head_dim = 2 * half;
  const auto query = random.normal(head_dim), key = random.normal(head_dim);
  const auto product = [&](Isa isa, RopePairing pairing, int32_t query_at, int32_t key_at) {
    std::vector<float> q = query, k = key;
    const auto q_table = table(1, half, query_at), k_table = table(1, half, key_at);
    rope_cpu(isa)({.x = view(q, {1, 1, head_dim}),
                   .cos_sin = view(q_table, {1, head_dim}),
                   .pairing = pairing},
                  pool);
    rope_cpu(isa)({.x = view(k, {1, 1, head_dim}),
                   .cos_sin = view(k_table, {1, head_dim}),
                   .pairing = pairing},
                  pool);
    double sum = 0;
    for (size_t i = 0; i < q.size(); ++i) sum += static_cast<double>(q[i]) * k[i];
    return sum;
  };
  for (const Isa isa : available_isas()) {
    for (const RopePairing pairing : kPairings) {
      EXPECT_NEAR(product(isa, pairing, 9, 2), product(isa, pairing, 507, 500), 1e-4);
      EXPECT_GT(std::abs(product(isa, pairing, 9, 2) - product(isa, pairing, 9, 3)), 1e-3);
    }
  }
}

}  // namespace
}  // namespace ashlar
