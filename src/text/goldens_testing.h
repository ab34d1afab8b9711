#pragma once

// Test data made by transformers, one JSON object per line; see tests/goldens/README.md.

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/file.h"
#include "base/json.h"

namespace ashlar::text {

inline const std::string kGoldens = std::string(ASHLAR_SOURCE_DIR) + "/tests/goldens/text/";

// The objects of a file; a missing or broken one fails the test.
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

}  // namespace ashlar::text
