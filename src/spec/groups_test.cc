#include "spec/groups.h"

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>

namespace ashlar {
namespace {

Json config_file(const std::string& name) {
  std::ifstream file(std::string(ASHLAR_SOURCE_DIR) + "/tests/configs/" + name);
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  auto json = parse_json(text, name);
  CHECK(json.has_value(), "{}", json.error().text);
  return *std::move(json);
}

ModelSpec spec_of(const Json& config) {
  auto model = read_model_spec(config);
  CHECK(model.has_value(), "{}", model.error().text);
  return *std::move(model);
}

// A published config and, under "_plan", what its cache must come to.
class PublishedGroups : public testing::TestWithParam<const char*> {};

TEST_P(PublishedGroups, AreThePlannedOnes) {
  const Json config = config_file(GetParam());
  const ModelSpec model = spec_of(config);
  const Json& plan = *config.find("_plan");
  const Json::Array& planned = plan.find("groups")->as_array();
  for (const auto& [dtype, key] : {std::pair{DType::bf16, "bf16"}, {DType::f8e4m3, "fp8"}}) {
    const auto groups = cache_groups(model, dtype, 16);
    ASSERT_EQ(groups.size(), planned.size());
    int64_t token_bytes = 0, window_bytes = 0;
    for (size_t i = 0; i < groups.size(); ++i) {
      const CacheGroup& group = groups[i];
      const Json& expected = planned[i];
      const auto number = [&](const char* name) { return expected.find(name)->as_int(); };
      EXPECT_EQ(group.kv_heads, number("kv_heads"));
      EXPECT_EQ(group.k_dim, number("k_head_dim"));
      EXPECT_EQ(group.v_dim, number("v_head_dim"));
      EXPECT_EQ(group.window, expected.find("window")->is_null() ? 0 : number("window"));
      EXPECT_STREQ(name(group.kind), group.window == 0 ? "full" : "window");
      EXPECT_EQ(group.token_bytes() / group.n_layers(),
                expected.find("bytes_per_token_per_layer")->find(key)->as_int());
      std::vector<int32_t> layers;
      for (const Json& layer : expected.find("layers")->as_array()) {
        layers.push_back(static_cast<int32_t>(layer.as_int()));
      }
      EXPECT_EQ(group.layers, layers);
      (group.window == 0 ? token_bytes : window_bytes) +=
          group.token_bytes() * std::max(group.window, 1);
    }
    const Json& totals = *plan.find("totals");
    EXPECT_EQ(token_bytes,
              totals.find(std::string("unbounded_kv_bytes_per_token_") + key)->as_int());
    if (dtype == DType::bf16) {
      EXPECT_EQ(window_bytes, totals.find("window_kv_bytes_per_seq_bf16")->as_int());
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Groups, PublishedGroups,
                         testing::Values("mimo-v2-flash.json", "qwen3-0.6b.json",
                                         "llama-3.1-8b.json"));

TEST(Groups, MimoPagesInBytes) {
  const auto groups = cache_groups(spec_of(config_file("mimo-v2-flash.json")), DType::bf16, 16);
  EXPECT_EQ(groups[0].token_bytes(), 9 * 2560);
  EXPECT_EQ(groups[0].page_bytes(), 368'640);
  EXPECT_EQ(groups[1].token_bytes(), 39 * 5120);
  EXPECT_EQ(groups[1].page_bytes(), 3'194'880);
}

AttentionSpec attention(int32_t kv_heads, int32_t k_dim, int32_t v_dim, int32_t window) {
  return {
      .heads = kv_heads, .kv_heads = kv_heads, .k_dim = k_dim, .v_dim = v_dim, .window = window};
}

// Any mix of geometries: the groups partition the layers, in order, and the bytes add up.
TEST(Groups, EveryGeometryIsAGroupOfItsOwn) {
  ModelSpec model;
  for (const AttentionSpec& a :
       {attention(2, 24, 16, 0), attention(2, 24, 16, 17), attention(2, 24, 16, 18),
        attention(2, 24, 16, 0), attention(1, 24, 16, 0), attention(2, 16, 24, 0),
        attention(2, 24, 16, 17)}) {
    model.layers.push_back({.attention = a});
  }
  for (const int32_t page_tokens : {1, 3, 16, 100}) {
    const auto groups = cache_groups(model, DType::bf16, page_tokens);
    ASSERT_EQ(groups.size(), 5u);
    EXPECT_EQ(groups[0].layers, (std::vector<int32_t>{0, 3}));
    EXPECT_EQ(groups[1].layers, (std::vector<int32_t>{1, 6}));
    EXPECT_EQ(groups[2].layers, (std::vector<int32_t>{2}));
    EXPECT_EQ(groups[4].layers, (std::vector<int32_t>{5}));
    for (const CacheGroup& group : groups) {
      EXPECT_EQ(group.page_data_bytes(), group.token_bytes() * page_tokens);
      EXPECT_EQ(group.page_data_bytes(),
                group.n_layers() * group.kv_heads * page_tokens * (group.k_dim + group.v_dim) * 2);
      EXPECT_GE(group.page_bytes(), group.page_data_bytes());
      EXPECT_LT(group.page_bytes(), group.page_data_bytes() + 256);
      EXPECT_EQ(group.page_bytes() % 256, 0);
    }
  }
  EXPECT_TRUE(cache_groups(ModelSpec(), DType::bf16, 16).empty());
}

}  // namespace
}  // namespace ashlar
