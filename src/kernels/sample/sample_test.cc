#include "kernels/sample/sample.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <set>

#include "kernels/testing.h"

namespace ashlar {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

int32_t draw_one(const std::vector<float>& logits, const Sampling& sampling, int64_t position = 0) {
  std::vector<std::pair<float, int32_t>> scratch;
  return sample(logits, sampling, position, &scratch);
}

std::vector<int32_t> draws(const std::vector<float>& logits, const Sampling& sampling, int64_t n) {
  std::vector<std::pair<float, int32_t>> scratch;
  std::vector<int32_t> tokens;
  for (int64_t position = 0; position < n; ++position) {
    tokens.push_back(sample(logits, sampling, position, &scratch));
  }
  return tokens;
}

std::set<int32_t> support(const std::vector<float>& logits, const Sampling& sampling,
                          int64_t n = 4000) {
  const auto tokens = draws(logits, sampling, n);
  return {tokens.begin(), tokens.end()};
}

// What the contract says, by sorting the whole row in double: the probability of every token.
std::vector<double> specified(const std::vector<float>& logits, const Sampling& s) {
  struct Row {
    double weight;
    size_t token;
  };
  std::vector<Row> rows;
  const double peak = *std::max_element(logits.begin(), logits.end());
  for (size_t i = 0; i < logits.size(); ++i) {
    rows.push_back({std::exp((logits[i] - peak) / s.temperature), i});
  }
  std::stable_sort(rows.begin(), rows.end(),
                   [](const Row& a, const Row& b) { return a.weight > b.weight; });
  if (s.top_k > 0) rows.resize(std::min(rows.size(), static_cast<size_t>(s.top_k)));
  double total = 0;
  for (const Row& row : rows) total += row.weight;
  size_t n = 0;
  for (double sum = 0; n < rows.size() && (n == 0 || sum < s.top_p * total); ++n) {
    sum += rows[n].weight;
  }
  rows.resize(n);
  std::erase_if(rows, [&](const Row& row) { return row.weight < s.min_p; });
  total = 0;
  for (const Row& row : rows) total += row.weight;
  std::vector<double> out(logits.size());
  for (const Row& row : rows) out[row.token] = row.weight / total;
  return out;
}

// Pearson's statistic of n draws against the expected shares, in standard deviations above its mean
// (k - 1 degrees of freedom). Tokens expected fewer than 5 times are counted as one.
double chi_square_sigmas(const std::vector<int32_t>& tokens, const std::vector<double>& shares) {
  std::vector<double> counts(shares.size());
  for (const int32_t token : tokens) counts[static_cast<size_t>(token)] += 1;
  const auto n = static_cast<double>(tokens.size());
  double statistic = 0, rest = 0, expected_rest = 0;
  int cells = 0;
  for (size_t i = 0; i < shares.size(); ++i) {
    const double expected = shares[i] * n;
    if (shares[i] == 0 && counts[i] > 0) return kInfinity;
    if (expected < 5) {
      rest += counts[i];
      expected_rest += expected;
      continue;
    }
    statistic += (counts[i] - expected) * (counts[i] - expected) / expected;
    ++cells;
  }
  if (expected_rest >= 5) {
    statistic += (rest - expected_rest) * (rest - expected_rest) / expected_rest;
    ++cells;
  }
  const double degrees = std::max(1, cells - 1);
  return (statistic - degrees) / std::sqrt(2 * degrees);
}

TEST(SamplingOptions, BadOnesAreNamed) {
  EXPECT_TRUE(validate({}));
  EXPECT_TRUE(validate({.temperature = 2, .top_k = 5, .top_p = 0.5f, .min_p = 1}));
  const auto text = [](const Sampling& s) {
    const Status status = validate(s);
    return status ? std::string("accepted") : status.error().text;
  };
  EXPECT_NE(text({.temperature = -1}).find("temperature -1"), std::string::npos);
  EXPECT_NE(text({.temperature = kNan}).find("temperature nan"), std::string::npos);
  EXPECT_NE(text({.temperature = kInfinity}).find("temperature inf"), std::string::npos);
  EXPECT_NE(text({.top_k = -3}).find("top_k -3"), std::string::npos);
  EXPECT_NE(text({.top_p = 0}).find("top_p 0"), std::string::npos);
  EXPECT_NE(text({.top_p = 1.01f}).find("top_p 1.01"), std::string::npos);
  EXPECT_NE(text({.top_p = kNan}).find("top_p nan"), std::string::npos);
  EXPECT_NE(text({.min_p = -0.1f}).find("min_p -0.1"), std::string::npos);
  EXPECT_NE(text({.min_p = 1.5f}).find("min_p 1.5"), std::string::npos);
}

TEST(Greedy, TakesTheLargestAndTheLowestIdAmongEquals) {
  Random random(1);
  for (const int64_t width : {1, 2, 15, 16, 17, 255, 256, 257, 1000}) {
    auto logits = random.normal(width);
    const auto expected = std::max_element(logits.begin(), logits.end()) - logits.begin();
    EXPECT_EQ(draw_one(logits, {}), expected) << width;
    for (size_t i = static_cast<size_t>(expected); i < logits.size(); i += 7) {
      logits[i] = logits[static_cast<size_t>(expected)];
    }
    EXPECT_EQ(draw_one(logits, {}), expected) << width;
  }
  EXPECT_EQ(draw_one({-1.0f, -0.0f, 0.0f}, {}), 1);
}

TEST(Greedy, NanNeverWins) {
  std::vector<float> logits(300, kNan);
  logits[270] = -5;
  EXPECT_EQ(draw_one(logits, {}), 270);
  logits[17] = -kInfinity;
  EXPECT_EQ(draw_one(logits, {}), 270);
  logits[299] = kInfinity;
  EXPECT_EQ(draw_one(logits, {}), 299);
}

TEST(Sample, NanNeverWinsAndMaskedTokensNeverAppear) {
  std::vector<float> logits(300, kNan);
  for (size_t i = 100; i < 200; ++i) logits[i] = -kInfinity;
  logits[3] = 1, logits[42] = 0, logits[271] = -1;
  const std::set<int32_t> expected = {3, 42, 271};
  EXPECT_EQ(support(logits, {.temperature = 1}), expected);
  EXPECT_EQ(support(logits, {.temperature = 1, .top_k = 250}), expected);
  EXPECT_EQ(support(logits, {.temperature = 1, .top_p = 0.999f}), expected);
  EXPECT_EQ(support(logits, {.temperature = 1, .min_p = 0.01f}), expected);
}

TEST(Sample, ARowWithoutAFiniteLogitIsAnError) {
  for (const Sampling& sampling :
       {Sampling{}, Sampling{.temperature = 1}, Sampling{.temperature = 1, .top_k = 2},
        Sampling{.temperature = 1, .top_p = 0.5f}}) {
    EXPECT_EQ(draw_one({}, sampling), -1);
    EXPECT_EQ(draw_one(std::vector<float>(400, -kInfinity), sampling), -1);
    EXPECT_EQ(draw_one(std::vector<float>(400, kNan), sampling), -1);
    EXPECT_EQ(draw_one({kInfinity, -kInfinity, kNan}, sampling), -1);
    EXPECT_EQ(draw_one({kNan, -kInfinity, 2.0f, -kInfinity}, sampling), 2);
  }
}

TEST(Sample, InfinityAmongFiniteLogitsTakesEverything) {
  const std::vector<float> logits = {1, kInfinity, 3, kInfinity, kNan};
  const std::set<int32_t> both = {1, 3};
  EXPECT_EQ(support(logits, {.temperature = 1}), both);
  EXPECT_EQ(support(logits, {.temperature = 1, .top_k = 3}), both);
  EXPECT_EQ(support(logits, {.temperature = 1, .top_p = 0.9f}), both);
}

TEST(Sample, ExtremeTemperatures) {
  const std::vector<float> logits = {1, 5, 4.999f, -2};
  for (const float cold : {1e-6f, 1e-38f, 1e-45f}) {
    EXPECT_EQ(support(logits, {.temperature = cold}, 200), (std::set<int32_t>{1})) << cold;
    EXPECT_EQ(support(logits, {.temperature = cold, .top_k = 2}, 200), (std::set<int32_t>{1}));
  }
  EXPECT_EQ(support(logits, {.temperature = 1e30f}, 200), (std::set<int32_t>{0, 1, 2, 3}));
  const std::vector<float> far = {3e38f, -3e38f, 0};
  EXPECT_EQ(support(far, {.temperature = 1}, 200), (std::set<int32_t>{0}));
}

TEST(Sample, TopKKeepsExactlyKAndTheLowestIdsAmongEquals) {
  const std::vector<float> logits = {2, 7, 2, 9, 2, 2, 7, 1};
  EXPECT_EQ(support(logits, {.temperature = 50, .top_k = 1}), (std::set<int32_t>{3}));
  EXPECT_EQ(support(logits, {.temperature = 50, .top_k = 2}), (std::set<int32_t>{1, 3}));
  EXPECT_EQ(support(logits, {.temperature = 50, .top_k = 3}), (std::set<int32_t>{1, 3, 6}));
  EXPECT_EQ(support(logits, {.temperature = 50, .top_k = 5}), (std::set<int32_t>{0, 1, 2, 3, 6}));
  for (const int32_t all : {0, 8, 100}) {
    EXPECT_EQ(support(logits, {.temperature = 50, .top_k = all}).size(), 8u);
  }
}

TEST(Sample, TopPKeepsTheTokenThatCrosses) {
  // Shares 0.5, 0.3, 0.15, 0.05, out of order.
  const std::vector<float> logits = {std::log(0.3f), std::log(0.05f), std::log(0.5f),
                                     std::log(0.15f)};
  const auto kept = [&](float top_p) {
    return support(logits, {.temperature = 1, .top_p = top_p});
  };
  EXPECT_EQ(kept(1e-9f), (std::set<int32_t>{2}));
  EXPECT_EQ(kept(0.49f), (std::set<int32_t>{2}));
  EXPECT_EQ(kept(0.51f), (std::set<int32_t>{0, 2}));
  EXPECT_EQ(kept(0.79f), (std::set<int32_t>{0, 2}));
  EXPECT_EQ(kept(0.81f), (std::set<int32_t>{0, 2, 3}));
  EXPECT_EQ(kept(0.96f), (std::set<int32_t>{0, 1, 2, 3}));
  EXPECT_EQ(kept(1.0f), (std::set<int32_t>{0, 1, 2, 3}));
}

TEST(Sample, TopPCountsSharesOfWhatTopKLeft) {
  // Of the best two, 0.5 and 0.3, the first holds 0.625.
  const std::vector<float> logits = {std::log(0.5f), std::log(0.3f), std::log(0.2f)};
  EXPECT_EQ(support(logits, {.temperature = 1, .top_k = 2, .top_p = 0.6f}), (std::set<int32_t>{0}));
  EXPECT_EQ(support(logits, {.temperature = 1, .top_p = 0.6f}), (std::set<int32_t>{0, 1}));
}

TEST(Sample, MinPIsRelativeToTheLikeliest) {
  const std::vector<float> logits = {std::log(0.5f), std::log(0.3f), std::log(0.15f),
                                     std::log(0.05f)};
  for (const int32_t top_k : {0, 4, 3}) {
    const auto kept = [&](float min_p) {
      return support(logits, {.temperature = 1, .top_k = top_k, .min_p = min_p});
    };
    EXPECT_EQ(kept(0.59f), (std::set<int32_t>{0, 1})) << top_k;
    EXPECT_EQ(kept(0.61f), (std::set<int32_t>{0})) << top_k;
    EXPECT_EQ(kept(0.29f), (std::set<int32_t>{0, 1, 2})) << top_k;
    EXPECT_EQ(kept(1.0f), (std::set<int32_t>{0})) << top_k;
  }
  // After temperature: at 2, the second's ratio is sqrt(0.6) = 0.77.
  EXPECT_EQ(support(logits, {.temperature = 2, .min_p = 0.76f}), (std::set<int32_t>{0, 1}));
}

TEST(Sample, SharesAreThoseSpecified) {
  Random random(5);
  for (const int64_t width : {2, 9, 64, 700}) {
    const auto logits = random.normal(width, 1.5f);
    for (Sampling s :
         {Sampling{.temperature = 1}, Sampling{.temperature = 0.5f}, Sampling{.temperature = 2},
          Sampling{.temperature = 1, .top_k = 7}, Sampling{.temperature = 1, .top_p = 0.8f},
          Sampling{.temperature = 1, .min_p = 0.1f},
          Sampling{.temperature = 1.3f, .top_k = 20, .top_p = 0.7f, .min_p = 0.05f}}) {
      s.seed = static_cast<uint64_t>(width);
      EXPECT_LT(chi_square_sigmas(draws(logits, s, 20000), specified(logits, s)), 4.5)
          << "width " << width << " temperature " << s.temperature << " top_k " << s.top_k
          << " top_p " << s.top_p << " min_p " << s.min_p;
    }
  }
}

// The set kept, on random rows and random options, is the set the contract names. A token whose
// share lies within rounding of a limit may fall on either side.
TEST(Sample, OnlySpecifiedTokensAreDrawn) {
  Random random(6);
  for (int round = 0; round < 300; ++round) {
    const auto logits = random.normal(random.integer(1, 900), 3.0f);
    const Sampling s{.temperature = static_cast<float>(random.integer(1, 30)) / 10,
                     .top_k = static_cast<int32_t>(random.integer(0, 40)),
                     .top_p = static_cast<float>(random.integer(1, 100)) / 100,
                     .min_p = static_cast<float>(random.integer(0, 3)) / 40,
                     .seed = static_cast<uint64_t>(round)};
    Sampling looser = s;
    looser.top_p = std::min(1.0f, s.top_p * 1.000001f);
    looser.min_p = s.min_p * 0.999999f;
    const auto shares = specified(logits, looser);
    for (const int32_t token : draws(logits, s, 50)) {
      ASSERT_GE(token, 0);
      EXPECT_GT(shares[static_cast<size_t>(token)], 0) << "round " << round;
    }
  }
}

TEST(Sample, ADrawDependsOnSeedAndPositionAlone) {
  Random random(7);
  const auto logits = random.normal(500);
  for (const Sampling& s :
       {Sampling{.temperature = 1, .seed = 11}, Sampling{.temperature = 1, .top_k = 50, .seed = 11},
        Sampling{.temperature = 1, .top_p = 0.9f, .seed = 11}}) {
    const auto straight = draws(logits, s, 100);
    std::vector<std::pair<float, int32_t>> scratch;
    for (int64_t position = 99; position >= 0; --position) {
      EXPECT_EQ(sample(logits, s, position, &scratch), straight[static_cast<size_t>(position)]);
      sample(random.normal(70), {.temperature = 3, .top_k = 5}, position, &scratch);  // a neighbour
    }
    Sampling other = s;
    other.seed = 12;
    EXPECT_NE(draws(logits, other, 100), straight);
  }
}

// Draws at neighbouring positions, and at one position under neighbouring seeds, are independent:
// pairs of them fall evenly on the square.
TEST(Sample, DrawsAreIndependent) {
  const std::vector<float> even(8, 0.0f);
  const auto pairs_are_even = [&](auto token_at) {
    std::vector<int32_t> pairs;
    for (int64_t i = 0; i < 40000; i += 2) pairs.push_back(token_at(i) * 8 + token_at(i + 1));
    return chi_square_sigmas(pairs, std::vector<double>(64, 1.0 / 64));
  };
  EXPECT_LT(
      pairs_are_even([&](int64_t i) { return draw_one(even, {.temperature = 1, .seed = 3}, i); }),
      4.5);
  EXPECT_LT(pairs_are_even([&](int64_t i) {
              return draw_one(even, {.temperature = 1, .seed = static_cast<uint64_t>(i)}, 5);
            }),
            4.5);
  // Seed s at position p against seed s + 1 at position p - 1: no shared stream.
  EXPECT_LT(pairs_are_even([&](int64_t i) {
              const auto seed = static_cast<uint64_t>(i % 2);
              return draw_one(even, {.temperature = 1, .seed = seed}, 1000 + i / 2 - i % 2);
            }),
            4.5);
}

TEST(LogProbability, IsTheLogarithmOfSoftmax) {
  const std::vector<float> logits = {std::log(1.0f), std::log(2.0f), std::log(5.0f), -kInfinity};
  EXPECT_NEAR(log_probability(logits, 0), std::log(1.0 / 8), 1e-6);
  EXPECT_NEAR(log_probability(logits, 2), std::log(5.0 / 8), 1e-6);
  EXPECT_EQ(log_probability(logits, 3), -kInfinity);
  // Far from zero, where a plain exp overflows.
  EXPECT_NEAR(log_probability(std::vector<float>{5000, 5000}, 0), std::log(0.5), 1e-12);
  Random random(8);
  const auto row = random.normal(3000, 4.0f);
  double sum = 0;
  for (int32_t token = 0; token < 3000; ++token) sum += std::exp(log_probability(row, token));
  EXPECT_NEAR(sum, 1.0, 1e-9);
}

TEST(LogProbability, ATokenOutsideTheRowIsOurMistake) {
  EXPECT_DEATH(log_probability(std::vector<float>{1, 2}, 2), "token 2 of 2");
}

}  // namespace
}  // namespace ashlar
