#include "weights/checkpoint.h"

#include <gtest/gtest.h>

#include "weights/testing.h"

namespace ashlar {
namespace {

constexpr const char* kIndex = "model.safetensors.index.json";

std::string index_of(const Json::Object& map) {
  return Json(Json::Object{{"metadata", Json::Object{{"total_size", 1}}}, {"weight_map", map}})
      .dump();
}

// The folder's error; every one names the folder or a file in it.
std::string error_of(const Folder& folder) {
  const auto checkpoint = Checkpoint::open(folder.path());
  if (checkpoint) return "";
  EXPECT_TRUE(checkpoint.error().text.starts_with(folder.path())) << checkpoint.error().text;
  return checkpoint.error().text;
}

bool mentions(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

const TensorData kOne = tensor_of("F32", {1}, {1});
const TensorData kTwo = tensor_of("F32", {1}, {2});

float value_of(const Checkpoint& checkpoint, const char* name) {
  float value = 0;
  std::memcpy(&value, checkpoint.find(name)->data, sizeof value);
  return value;
}

TEST(Checkpoint, OneFileOrShards) {
  const Folder folder;
  folder.write("s1.safetensors", file_of({{"a", kOne}}));
  folder.write("s2.safetensors", file_of({{"b", kTwo}, {"c", kOne}}));
  folder.write(
      kIndex,
      index_of({{"c", "s2.safetensors"}, {"a", "s1.safetensors"}, {"b", "s2.safetensors"}}));
  auto sharded = Checkpoint::open(folder.path());
  ASSERT_TRUE(sharded) << sharded.error().text;
  const Checkpoint moved = *std::move(sharded);
  EXPECT_EQ(moved.tensors().size(), 3u);
  EXPECT_EQ(value_of(moved, "a"), 1);
  EXPECT_EQ(value_of(moved, "b"), 2);
  EXPECT_EQ(*moved.find("b")->path, folder.path() + "/s2.safetensors");
  EXPECT_EQ(moved.find("d"), nullptr);

  folder.write("model.safetensors", file_of({{"d", kTwo}}));
  const auto single = Checkpoint::open(folder.path());
  ASSERT_TRUE(single) << single.error().text;
  EXPECT_EQ(single->tensors().size(), 1u) << "the single file goes before the index";
  EXPECT_EQ(value_of(*single, "d"), 2);
}

TEST(Checkpoint, AFolderWithoutWeightsSaysWhatWasLookedFor) {
  const Folder folder;
  const std::string error = error_of(folder);
  EXPECT_TRUE(mentions(error, "neither model.safetensors nor model.safetensors.index.json"));
  EXPECT_EQ(Checkpoint::open(folder.path() + "/none").error().code, Code::not_found);
}

TEST(Checkpoint, EveryMissingShardIsNamed) {
  const Folder folder;
  folder.write("s1", file_of({{"a", kOne}}));
  folder.write(kIndex, index_of({{"a", "s1"}, {"b", "s2"}, {"c", "s3"}, {"d", "s2"}}));
  EXPECT_TRUE(mentions(error_of(folder), "2 of 3 shards")) << error_of(folder);
  EXPECT_TRUE(mentions(error_of(folder), "missing: s2, s3")) << error_of(folder);
}

TEST(Checkpoint, ShardsStayInTheFolder) {
  const Folder outer;
  std::filesystem::create_directory(outer.path() + "/sub");
  outer.write("out", file_of({{"a", kOne}}));
  outer.write("sub/in", file_of({{"a", kOne}}));
  for (const char* shard : {"../out", "sub/in", "/etc/passwd", "..", ".", "", "a\\b"}) {
    outer.write(kIndex, index_of({{"a", shard}}));
    EXPECT_TRUE(mentions(error_of(outer), "plain name")) << shard << ": " << error_of(outer);
    EXPECT_TRUE(mentions(error_of(outer), ": a: shard")) << error_of(outer);
  }
  outer.write(kIndex, index_of({{"a", std::string("out\0/x", 6)}}));
  EXPECT_TRUE(mentions(error_of(outer), "plain name"));
  outer.write(kIndex, index_of({{"a", 3}}));
  EXPECT_TRUE(mentions(error_of(outer), "plain name"));
  outer.write(kIndex, index_of({{"a", "sub"}}));
  EXPECT_TRUE(mentions(error_of(outer), "is a directory"));
}

TEST(Checkpoint, IndexAndShardsMustAgree) {
  const Folder folder;
  folder.write("s1", file_of({{"a", kOne}, {"b", kOne}}));
  folder.write("s2", file_of({{"b", kOne}, {"x", kOne}}));
  folder.write(kIndex, index_of({{"a", "s1"}, {"b", "s2"}, {"c", "s1"}}));
  const std::string error = error_of(folder);
  EXPECT_TRUE(mentions(error, "1 listed but absent: c in s1")) << error;
  EXPECT_TRUE(mentions(error, "2 present but not listed there: b in s1, x in s2")) << error;
}

TEST(Checkpoint, BadIndexesAreRefused) {
  const Folder folder;
  folder.write("s1", file_of({{"a", kOne}}));
  const std::pair<const char*, const char*> kCases[] = {
      {"", "not valid JSON"},
      {"{}", "weight_map is missing"},
      {"[]", "weight_map is missing"},
      {R"({"weight_map": 3})", "weight_map is integer"},
      {R"({"weight_map": {"a": "s1", "a": "s2"}})", "\"a\" appears twice"},
  };
  for (const auto& [text, expected] : kCases) {
    folder.write(kIndex, text);
    EXPECT_TRUE(mentions(error_of(folder), expected)) << text << ": " << error_of(folder);
  }
  folder.write(kIndex, index_of({{"a", "s1"}}));
  EXPECT_EQ(error_of(folder), "");
  folder.write("s1", file_of({{"a", kOne}}).substr(0, 30));
  EXPECT_TRUE(mentions(error_of(folder), "/s1: header length"));
}

TEST(Checkpoint, LongListsAreCounted) {
  std::vector<std::string> names;
  for (int i = 0; i < 20; ++i) names.push_back(fmt::format("n{}", i));
  EXPECT_EQ(list_names(names, 3), "n0, n1, n2 and 17 more");
  EXPECT_EQ(list_names(std::span(names).first(2), 3), "n0, n1");
}

}  // namespace
}  // namespace ashlar
