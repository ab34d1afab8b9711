#include "spec/rope.h"

#include <gtest/gtest.h>

#include <cmath>

namespace ashlar {
namespace {

Result<RopeSpec> rope_of(const char* text, int32_t head_dim, int32_t max_positions = 4096) {
  auto json = parse_json(text, "config.json");
  CHECK(json.has_value(), "{}", json.error().text);
  return read_rope(ConfigReader(*json, "config.json"), head_dim, 10000, max_positions);
}

double plain(double theta, int i, int dim) { return std::pow(theta, -2.0 * i / dim); }

void expect_close(double actual, double expected, int i) {
  EXPECT_NEAR(actual / expected, 1, 2e-6) << "frequency " << i;
}

TEST(Rope, FrequenciesAreThetaToMinusTwoIOverDim) {
  for (const int32_t dim : {2, 64, 128}) {
    const auto inv_freq = rope_frequencies(5e5, dim);
    ASSERT_EQ(inv_freq.size(), static_cast<size_t>(dim / 2));
    for (int i = 0; i < dim / 2; ++i) {
      expect_close(inv_freq[static_cast<size_t>(i)], plain(5e5, i, dim), i);
    }
  }
  EXPECT_TRUE(rope_frequencies(1e4, 0).empty());
}

// An odd number of rotary dims has ceil(dim / 2) frequencies over the odd dim: what arange(0, dim,
// 2) / dim gives the checkpoints' own code.
TEST(Rope, PartialAndOddDims) {
  const auto rope = rope_of(R"({"rope_theta": 10000, "partial_rotary_factor": 0.334})", 20);
  ASSERT_TRUE(rope) << rope.error().text;
  ASSERT_EQ(rope->inv_freq.size(), 3u) << "int(20 * 0.334) = 6";
  expect_close(rope->inv_freq[1], plain(1e4, 1, 6), 1);
  const auto odd = rope_of(R"({"rope_theta": 10000, "partial_rotary_factor": 0.25})", 20);
  ASSERT_TRUE(odd) << odd.error().text;
  ASSERT_EQ(odd->inv_freq.size(), 3u) << "5 dims";
  expect_close(odd->inv_freq[2], plain(1e4, 2, 5), 2);
}

TEST(Rope, FlatAndNestedSpellingsAgree) {
  const char* const kPairs[][2] = {
      {R"({"rope_theta": 1000000})",
       R"({"rope_parameters": {"rope_type": "default", "rope_theta": 1000000}})"},
      {R"({"rope_theta": 500, "rope_scaling": {"type": "linear", "factor": 4}})",
       R"({"rope_parameters": {"rope_type": "linear", "rope_theta": 500, "factor": 4}})"},
      {R"({"rope_scaling": {"rope_type": "yarn", "factor": 8, "mscale": 1.5,
            "mscale_all_dim": 1, "original_max_position_embeddings": 512}})",
       R"({"rope_parameters": {"rope_type": "yarn", "factor": 8, "mscale": 1.5,
            "mscale_all_dim": 1, "original_max_position_embeddings": 512}})"},
      {R"({"partial_rotary_factor": 0.5, "rope_scaling": null})",
       R"({"rope_parameters": {"partial_rotary_factor": 0.5}})"}};
  for (const auto& [flat, nested] : kPairs) {
    const auto a = rope_of(flat, 64), b = rope_of(nested, 64);
    ASSERT_TRUE(a && b) << flat;
    EXPECT_EQ(*a, *b) << flat;
    EXPECT_FALSE(a->inv_freq.empty());
  }
}

TEST(Rope, LinearDividesEveryFrequency) {
  const auto rope = rope_of(R"({"rope_scaling": {"rope_type": "linear", "factor": 2.5}})", 32);
  ASSERT_TRUE(rope) << rope.error().text;
  for (int i = 0; i < 16; ++i) {
    expect_close(rope->inv_freq[static_cast<size_t>(i)], plain(1e4, i, 32) / 2.5, i);
  }
  EXPECT_EQ(rope->amplitude, 1.0f);
}

// Llama 3.1's own parameters; values from the published formula in double precision.
TEST(Rope, Llama3StretchesLongWavelengths) {
  const auto rope = rope_of(R"({"rope_theta": 500000, "rope_scaling": {"rope_type": "llama3",
      "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4,
      "original_max_position_embeddings": 8192}})",
                            128);
  ASSERT_TRUE(rope) << rope.error().text;
  const std::pair<int, double> kExpected[] = {{0, 1.0},
                                              {28, 0.0032114459947525913},
                                              {29, 0.002166570763503359},
                                              {30, 0.0013718935677611381},
                                              {31, 0.0008567514129196321},
                                              {32, 0.0005248461609929547},
                                              {33, 0.00031269375038406517},
                                              {34, 0.00017850781276799638},
                                              {35, 9.556212353964683e-05},
                                              {63, 3.068925988914511e-07}};
  for (const auto& [i, value] : kExpected) {
    expect_close(rope->inv_freq[static_cast<size_t>(i)], value, i);
  }
  EXPECT_EQ(rope->amplitude, 1.0f);
}

struct YarnCase {
  const char* config;
  int32_t dim;
  std::vector<std::pair<int, double>> expected;
  double amplitude;
};

// The parameters of four published models: their correction ranges are [10, 23], [19, 20] (equal
// betas, so only rounding separates them) and, not rounded, [8.09, 17.40].
TEST(Rope, YarnMatchesPublishedParameters) {
  const YarnCase kCases[] = {
      {R"({"rope_theta": 10000, "rope_scaling": {"type": "yarn", "factor": 40, "beta_fast": 32,
          "beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 1.0,
          "original_max_position_embeddings": 4096}})",
       64,
       {{0, 1.0},
        {10, 0.05623413251903491},
        {11, 0.03900692656714386},
        {16, 0.0055},
        {22, 0.0001778279410038922},
        {23, 3.33380358040831e-05},
        {31, 3.3338035804083097e-06}},
       1.0},
      {R"({"rope_theta": 10000, "rope_scaling": {"type": "yarn", "factor": 40, "mscale": 0.707,
          "mscale_all_dim": 0.707, "original_max_position_embeddings": 4096}})",
       64,
       {{16, 0.0055}},
       1.0},
      {R"({"rope_theta": 50000, "rope_scaling": {"type": "yarn", "factor": 32, "beta_fast": 1,
          "beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 1.0,
          "original_max_position_embeddings": 4096}})",
       64,
       {{18, 0.0022742037565104413},
        {19, 0.0016217599081159522},
        {20, 3.6140467735726306e-05},
        {31, 8.764412911589874e-07}},
       1.0},
      {R"({"rope_theta": 150000, "rope_scaling": {"rope_type": "yarn", "factor": 32,
          "beta_fast": 32, "beta_slow": 1, "truncate": false,
          "original_max_position_embeddings": 4096}})",
       64,
       {{8, 0.050813274815461475},
        {9, 0.03170569618466377},
        {17, 0.0001293187012450632},
        {18, 3.8308812373753384e-05}},
       1.3465735902799727}};
  for (const YarnCase& test : kCases) {
    const auto rope = rope_of(test.config, test.dim);
    ASSERT_TRUE(rope) << rope.error().text;
    for (const auto& [i, value] : test.expected) {
      expect_close(rope->inv_freq[static_cast<size_t>(i)], value, i);
    }
    EXPECT_NEAR(rope->amplitude, test.amplitude, 1e-6) << test.config;
  }
}

TEST(Rope, YarnDefaults) {
  const auto stated = rope_of(R"({"rope_scaling": {"rope_type": "yarn", "factor": 4,
      "attention_factor": 0.5, "beta_fast": 32, "beta_slow": 1, "truncate": true,
      "original_max_position_embeddings": 4096}})",
                              64, 100);
  const auto assumed = rope_of(R"({"rope_scaling": {"rope_type": "yarn", "factor": 4}})", 64, 4096);
  ASSERT_TRUE(stated && assumed);
  EXPECT_EQ(stated->inv_freq, assumed->inv_freq);
  EXPECT_EQ(stated->amplitude, 0.5f);
  EXPECT_NEAR(assumed->amplitude, 0.1 * std::log(4.0) + 1, 1e-6);
}

TEST(Rope, ImpossibleValuesAreNamed) {
  const std::pair<const char*, const char*> kCases[] = {
      {R"({"rope_theta": 1})", "rope_theta = 1: must exceed 1"},
      {R"({"rope_theta": "big"})", "rope_theta = \"big\": expected a finite number"},
      {R"({"partial_rotary_factor": 0})", "partial_rotary_factor = 0"},
      {R"({"rope_scaling": "yarn"})", "rope_scaling = \"yarn\": expected an object"},
      {R"({"rope_scaling": {"rope_type": "longrope"}})", "rope_type = \"longrope\""},
      {R"({"rope_scaling": {"type": "dynamic"}})", "type = \"dynamic\""},
      {R"({"rope_scaling": {"rope_type": "linear"}})", "rope_scaling: factor is missing"},
      {R"({"rope_scaling": {"rope_type": "linear", "factor": 0}})", "factor = 0"},
      {R"({"rope_scaling": {"rope_type": "yarn", "factor": 0.5}})", "factor = 0.5"},
      {R"({"rope_scaling": {"rope_type": "yarn", "factor": 2, "beta_fast": 0}})", "beta_fast = 0"},
      {R"({"rope_scaling": {"rope_type": "yarn", "factor": 2, "beta_slow": -1}})",
       "beta_slow = -1"},
      {R"({"rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 0,
          "high_freq_factor": 4, "original_max_position_embeddings": 8192}})",
       "low_freq_factor = 0"},
      {R"({"rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 4,
          "high_freq_factor": 4, "original_max_position_embeddings": 8192}})",
       "high_freq_factor = 4"},
      {R"({"rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 1,
          "high_freq_factor": 4}})",
       "original_max_position_embeddings is missing"},
  };
  for (const auto& [config, expected] : kCases) {
    const auto rope = rope_of(config, 64);
    ASSERT_FALSE(rope) << config;
    EXPECT_NE(rope.error().text.find(expected), std::string::npos) << rope.error().text;
  }
}

}  // namespace
}  // namespace ashlar
