#include "base/json.h"

#include <gtest/gtest.h>

namespace ashlar {
namespace {

TEST(Json, ParsesEveryKindAndKeepsOrder) {
  const auto json = parse_json(R"({"b":[1,-2.5,"x\u00e9",true,null],"a":{}})", "test");
  ASSERT_TRUE(json) << json.error().text;
  EXPECT_EQ(json->dump(), "{\"b\":[1,-2.5,\"x\xc3\xa9\",true,null],\"a\":{}}");
  EXPECT_EQ(json->as_object()[1].first, "a");
  EXPECT_EQ(json->find("b")->as_array()[0].as_int(), 1);
  EXPECT_EQ(json->find("c"), nullptr);
}

TEST(Json, RefusesWhatItMust) {
  EXPECT_FALSE(parse_json("", "test"));
  EXPECT_FALSE(parse_json("{} x", "test"));
  EXPECT_FALSE(parse_json("[1,", "test"));
  EXPECT_FALSE(parse_json("\"\xff\"", "test"));
  const auto duplicate = parse_json(R"({"k":1,"k":2})", "header");
  ASSERT_FALSE(duplicate);
  EXPECT_EQ(duplicate.error().text, "header: JSON key \"k\" appears twice in one object");
  EXPECT_FALSE(parse_json(std::string(40, '[') + std::string(40, ']'), "test"));
  EXPECT_TRUE(parse_json(std::string(20, '[') + std::string(20, ']'), "test"));
}

TEST(Json, NumbersRoundTripAndWhatJsonLacksIsNull) {
  const auto json = parse_json("[9223372036854775807, 0.1, 1e300]", "test");
  ASSERT_TRUE(json);
  EXPECT_EQ(json->dump(), "[9223372036854775807,0.1,1e+300]");
  EXPECT_EQ(Json(0.0 / 0.0 * 1.0).dump(), "null");
}

}  // namespace
}  // namespace ashlar
