#include "weights/safetensors.h"

#include <gtest/gtest.h>

#include "weights/testing.h"

namespace ashlar {
namespace {

std::string error_of(const std::string& file) {
  const auto entries = parse_safetensors(as_bytes(file), "f.safetensors");
  return entries ? "" : entries.error().text;
}

TEST(Safetensors, ReadsEveryTypeAndShape) {
  const struct {
    const char* stored;
    int bytes;
    std::optional<DType> dtype;
  } kTypes[] = {
      {"F32", 4, DType::f32},        {"BF16", 2, DType::bf16},    {"F16", 2, DType::f16},
      {"F8_E4M3", 1, DType::f8e4m3}, {"U8", 1, DType::u8},        {"I32", 4, DType::i32},
      {"I64", 8, DType::i64},        {"F64", 8, std::nullopt},    {"BOOL", 1, std::nullopt},
      {"I16", 2, std::nullopt},      {"F8_E8M0", 1, std::nullopt}};
  for (const auto& type : kTypes) {
    TensorMap tensors;
    for (const std::vector<int64_t>& dims :
         {std::vector<int64_t>{}, {0}, {3}, {2, 0, 5}, {2, 3}, {1, 2, 1, 2, 1, 3}}) {
      int64_t n = type.bytes;
      for (const int64_t dim : dims) n *= dim;
      tensors[shape_text(dims)] = {type.stored, dims, std::string(static_cast<size_t>(n), 'x')};
    }
    const std::string file = file_of(tensors);
    const auto entries = parse_safetensors(as_bytes(file), "f");
    ASSERT_TRUE(entries) << entries.error().text;
    ASSERT_EQ(entries->size(), tensors.size());
    for (const TensorEntry& entry : *entries) {
      EXPECT_EQ(entry.name, shape_text(entry.dims));
      EXPECT_STREQ(entry.type->name, type.stored);
      EXPECT_EQ(entry.type->dtype, type.dtype);
      EXPECT_EQ(entry.end - entry.begin, tensors[entry.name].bytes.size());
      EXPECT_LE(entry.end, file.size());
    }
    EXPECT_EQ(entries->back().end, file.size());
  }
}

TEST(Safetensors, SubByteTypesAreSteppedOver) {
  const auto file = file_of({{"a", {"F4", {2, 3}, "abc"}}, {"b", {"F6_E2M3", {4}, "abc"}}});
  const auto entries = parse_safetensors(as_bytes(file), "f");
  ASSERT_TRUE(entries) << entries.error().text;
  EXPECT_EQ(entries->size(), 2u);
  EXPECT_NE(error_of(file_of({{"a", {"F4", {3}, "ab"}}})).find("whole bytes"), std::string::npos);
}

TEST(Safetensors, EveryTruncationAndExtensionIsRefused) {
  const std::string file = file_of(
      {{"a", tensor_of("BF16", {2, 3}, {1, 2, 3, 4, 5, 6})}, {"b", tensor_of("F32", {2}, {7, 8})}});
  ASSERT_EQ(error_of(file), "");
  for (size_t n = 0; n < file.size(); ++n) {
    const std::string error = error_of(file.substr(0, n));
    EXPECT_TRUE(error.starts_with("f.safetensors: ")) << n << ": " << error;
  }
  EXPECT_NE(error_of(file + "x").find("the last tensor ends at 20 but the data has 21 bytes"),
            std::string::npos);
}

TEST(Safetensors, LyingLengthsAreRefused) {
  const std::string file = file_of({{"a", tensor_of("F32", {2}, {7, 8})}});
  for (const uint64_t length :
       {uint64_t{0}, uint64_t{1}, uint64_t{file.size() - 7}, uint64_t{100'000'000},
        uint64_t{100'000'001}, uint64_t{1} << 63, ~uint64_t{0}, ~uint64_t{7}}) {
    std::string lie = file;
    std::memcpy(lie.data(), &length, sizeof length);
    const std::string error = error_of(lie);
    EXPECT_NE(error, "") << length;
    if (length > 100'000'000) {
      EXPECT_NE(error.find(fmt::format("header length {}", length)), std::string::npos) << error;
      EXPECT_NE(error.find("at most 100000000"), std::string::npos) << error;
    }
  }
}

TEST(Safetensors, EveryLieIsNamed) {
  const std::string a8 = R"("a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]})";
  const auto a = [](const std::string& members) { return "{\"a\":{" + members + "}}"; };
  const auto typed = [&](const std::string& shape, const std::string& offsets) {
    return a("\"dtype\":\"F32\",\"shape\":" + shape + ",\"data_offsets\":" + offsets);
  };
  const struct {
    std::string header;
    size_t n_data;
    std::vector<const char*> expected;
  } kCases[] = {
      {" {" + a8 + "}", 8, {"begins with"}},
      {"[]", 0, {"begins with"}},
      {"{" + a8, 8, {"not valid JSON"}},
      {"{" + a8 + "} x", 8, {"text after the end"}},
      {"{" + a8 + "," + a8 + "}", 8, {"\"a\" appears twice"}},
      {"{\"a\xff\":1}", 0, {"not valid JSON"}},
      {"{\"__metadata__\":3}", 0, {"__metadata__", "integer", "expected an object"}},
      {"{\"__metadata__\":{\"k\":3}}", 0, {"__metadata__", "\"k\"", "expected a string"}},
      {"{\"a\":3}", 0, {"a: is integer"}},
      {a(R"("shape":[2],"data_offsets":[0,8])"), 8, {"a: dtype is missing"}},
      {a(R"("dtype":7,"shape":[2],"data_offsets":[0,8])"), 8, {"a: dtype is missing"}},
      {a(R"("dtype":"F33","shape":[2],"data_offsets":[0,8])"), 8, {"a: dtype \"F33\"", "BF16"}},
      {a(R"("dtype":"F32","data_offsets":[0,8])"), 8, {"a: shape is missing"}},
      {a(R"("dtype":"F32","shape":[2])"), 8, {"a: data_offsets is missing"}},
      {typed("2", "[0,8]"), 8, {"a: shape is integer"}},
      {typed("[-2]", "[0,8]"), 8, {"a: shape holds -2"}},
      {typed("[2.0]", "[0,8]"), 8, {"a: shape holds 2"}},
      {typed("[18446744073709551615]", "[0,8]"), 8, {"a: shape holds"}},
      {typed("[\"2\"]", "[0,8]"), 8, {"a: shape holds \"2\""}},
      {typed("[2]", "[0,4,8]"), 8, {"a: data_offsets has 3 numbers"}},
      {typed("[2]", "[8,0]"), 8, {"a: data_offsets [8, 0]", "8 bytes of data"}},
      {typed("[2]", "[0,16]"), 8, {"a: data_offsets [0, 16]", "8 bytes of data"}},
      {typed("[2]", "[0,9223372036854775807]"), 8, {"[0, 9223372036854775807]"}},
      {typed("[3]", "[0,8]"), 8, {"a: data_offsets [0, 8] hold 8 bytes", "[3] takes 12"}},
      {typed("[4294967296,4294967296]", "[0,8]"), 8, {"[4294967296, 4294967296]", "overflows"}},
      {typed("[2305843009213693953,2]", "[0,8]"), 8, {"overflows"}},
      {typed("[9223372036854775807,0]", "[0,8]"), 8, {"overflows"}},
      {"{" + a8 + R"(,"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
       8,
       {"b: data begins at 4, inside a, which ends at 8"}},
      {"{" + a8 + R"(,"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
       8,
       {"b: data begins at 0, inside a"}},
      {"{" + a8 + R"(,"b":{"dtype":"F32","shape":[1],"data_offsets":[12,16]}})",
       16,
       {"b: data begins at 12", "4 bytes belong to no tensor"}},
      {typed("[1]", "[4,8]"), 8, {"a: data begins at 4"}},
      {"{" + a8 + "}", 12, {"the last tensor ends at 8 but the data has 12 bytes"}},
      {"{}", 1, {"ends at 0 but the data has 1 bytes"}},
  };
  for (const auto& test : kCases) {
    const std::string error = error_of(raw_file(test.header, std::string(test.n_data, '\0')));
    EXPECT_TRUE(error.starts_with("f.safetensors: ")) << test.header << "\n" << error;
    for (const char* part : test.expected) {
      EXPECT_NE(error.find(part), std::string::npos) << test.header << "\n" << error;
    }
  }
}

TEST(Safetensors, NamesInErrorsAreSafeToPrint) {
  const std::string error = error_of(raw_file("{\"\\u001b[31m\":3}", ""));
  EXPECT_EQ(error.find('\x1b'), std::string::npos) << error;
}

TEST(Safetensors, AFileIsMappedAndMoves) {
  const Folder folder;
  folder.write("x.safetensors", file_of({{"a", tensor_of("F32", {2}, {7, 8})}}));
  auto opened = TensorFile::open(folder.path() + "/x.safetensors");
  ASSERT_TRUE(opened) << opened.error().text;
  const TensorEntry* entry = &opened->entries()[0];
  const TensorFile file = *std::move(opened);
  float values[2];
  std::memcpy(values, file.data(*entry), sizeof values);
  EXPECT_EQ(values[0], 7);
  EXPECT_EQ(values[1], 8);
  EXPECT_EQ(TensorFile::open(folder.path() + "/y").error().code, Code::not_found);
  folder.write("empty", "");
  EXPECT_NE(TensorFile::open(folder.path() + "/empty").error().text.find("0 bytes"),
            std::string::npos);
}

}  // namespace
}  // namespace ashlar
