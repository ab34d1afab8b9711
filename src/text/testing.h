#pragma once

// What the room's tests share: the lines of the goldens, and a small tokenizer made on the spot.

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "text/byte_level.h"
#include "text/utf8.h"

namespace ashlar::text {

inline const std::string kGoldens = std::string(ASHLAR_SOURCE_DIR) + "/tests/goldens/text/";

// The objects of a file, made by transformers; a missing or broken one fails the test.
inline std::vector<Json> read_lines(const std::string& path) {
  std::vector<Json> rows;
  const auto text = read_file(path);
  EXPECT_TRUE(text) << (text ? "" : text.error().text);
  if (!text) return rows;
  for (size_t begin = 0; begin < text->size();) {
    const size_t end = std::min(text->find('\n', begin), text->size());
    if (end > begin) {
      auto row =
          parse_json(std::string_view(*text).substr(begin, end - begin), path, {.max_depth = 200});
      EXPECT_TRUE(row) << (row ? "" : row.error().text);
      if (row) rows.push_back(*std::move(row));
    }
    begin = end + 1;
  }
  EXPECT_FALSE(rows.empty()) << path;
  return rows;
}

// A tokenizer.json with the 256 bytes (ids 0 to 255, in the order of the bytes) and the merges
// given as pairs of bytes-in-alphabet strings, each a new token. Members can be replaced in the
// result.
inline Json::Object tiny_tokenizer(const std::vector<std::pair<std::string, std::string>>& pairs) {
  Json::Object vocab;
  for (int byte = 0; byte < 256; ++byte) {
    std::string character;
    append_utf8(byte_character(static_cast<uint8_t>(byte)), &character);
    vocab.emplace_back(character, byte);
  }
  Json::Array merges;
  for (const auto& [left, right] : pairs) {
    vocab.emplace_back(left + right, static_cast<int64_t>(vocab.size()));
    merges.push_back(Json::Array{Json(left), Json(right)});
  }
  const Json byte_level = Json::Object{{"type", "ByteLevel"},
                                       {"add_prefix_space", false},
                                       {"trim_offsets", true},
                                       {"use_regex", false}};
  return {{"added_tokens", Json::Array{}},
          {"normalizer", nullptr},
          {"pre_tokenizer", byte_level},
          {"post_processor", nullptr},
          {"decoder", byte_level},
          {"model", Json::Object{{"type", "BPE"}, {"vocab", vocab}, {"merges", merges}}}};
}

inline Json& member_of(Json::Object& object, std::string_view key) {
  for (auto& [name, value] : object) {
    if (name == key) return value;
  }
  return object.emplace_back(key, Json()).second;
}

}  // namespace ashlar::text
