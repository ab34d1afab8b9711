#pragma once

// ConfigReader: typed, checked reading of a config object. Every answer is a Result that names the
// key, the value and what would have been accepted, so a family reads like its list of keys.

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"

namespace ashlar {

class ConfigReader {
 public:
  // REQUIRES an object; it must outlive the reader. `path` names it in messages ("config.json").
  ConfigReader(const Json& object, std::string path) : object_(&object), path_(std::move(path)) {}

  // Present and not null. transformers writes null for "not set".
  bool has(std::string_view key) const;
  bool is_null(std::string_view key) const;
  const Json* find(std::string_view key) const;

  // A size or count in [low, high].
  Result<int32_t> integer(std::string_view key, int64_t low = 1, int64_t high = 1 << 30) const;
  Result<int32_t> integer_or(std::string_view key, int32_t fallback, int64_t low = 1,
                             int64_t high = 1 << 30) const;
  Result<double> number(std::string_view key) const;  // finite, also as a float
  Result<double> number_or(std::string_view key, double fallback) const;
  Result<bool> boolean_or(std::string_view key, bool fallback) const;
  Result<std::string> text_or(std::string_view key, std::string_view fallback) const;
  Result<std::vector<std::string>> texts(std::string_view key, size_t length) const;
  Result<std::vector<int32_t>> integers(std::string_view key, size_t length) const;

  // A nested object.
  Result<ConfigReader> object(std::string_view key) const;

  // Refuses a value outside the list; absent and null count as `absent_is`.
  Status require_text(std::string_view key, std::string_view absent_is,
                      std::initializer_list<std::string_view> accepted) const;

  // "config.json: KEY = VALUE: ..." for a value that is understood but not built, or makes no
  // sense.
  Error refuse(std::string_view key, std::string_view why) const;
  Error reject(std::string_view key, std::string_view why) const;

 private:
  std::string shown(std::string_view key) const;
  const Json* object_;
  std::string path_;
};

}  // namespace ashlar
