#include "spec/config.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace ashlar {

const Json* ConfigReader::find(std::string_view key) const {
  const Json* value = object_->find(key);
  return value != nullptr && !value->is_null() ? value : nullptr;
}

bool ConfigReader::is_null(std::string_view key) const {
  const Json* value = object_->find(key);
  return value != nullptr && value->is_null();
}

bool ConfigReader::has(std::string_view key) const { return find(key) != nullptr; }

std::string ConfigReader::shown(std::string_view key) const {
  const Json* value = object_->find(key);
  return value == nullptr ? fmt::format("{}: {} is missing", path_, key)
                          : fmt::format("{}: {} = {}", path_, key, excerpt(value->dump()));
}

Error ConfigReader::refuse(std::string_view key, std::string_view why) const {
  return unsupported("{}: {}", shown(key), why);
}

Error ConfigReader::reject(std::string_view key, std::string_view why) const {
  return invalid("{}: {}", shown(key), why);
}

Result<int32_t> ConfigReader::integer(std::string_view key, int64_t low, int64_t high) const {
  const Json* value = find(key);
  if (value == nullptr || !value->is_int() || value->as_int() < low || value->as_int() > high) {
    return reject(key, fmt::format("expected an integer from {} to {}", low, high));
  }
  return static_cast<int32_t>(value->as_int());
}

Result<int32_t> ConfigReader::integer_or(std::string_view key, int32_t fallback, int64_t low,
                                         int64_t high) const {
  if (!has(key)) return fallback;
  return integer(key, low, high);
}

Result<double> ConfigReader::number(std::string_view key) const {
  const Json* value = find(key);
  // What is read here ends up in a float.
  if (value == nullptr || !value->is_number() ||
      !(std::abs(value->as_double()) <= double{std::numeric_limits<float>::max()})) {
    return reject(key, "expected a finite number");
  }
  return value->as_double();
}

Result<double> ConfigReader::number_or(std::string_view key, double fallback) const {
  if (!has(key)) return fallback;
  return number(key);
}

Result<bool> ConfigReader::boolean_or(std::string_view key, bool fallback) const {
  const Json* value = find(key);
  if (value == nullptr) return fallback;
  if (!value->is_bool()) return reject(key, "expected true or false");
  return value->as_bool();
}

Result<std::string> ConfigReader::text_or(std::string_view key, std::string_view fallback) const {
  const Json* value = find(key);
  if (value == nullptr) return std::string(fallback);
  if (!value->is_string()) return reject(key, "expected a string");
  return value->as_string();
}

Result<std::vector<std::string>> ConfigReader::texts(std::string_view key, size_t length) const {
  const Json* value = find(key);
  if (value == nullptr || !value->is_array() || value->as_array().size() != length) {
    return reject(key, fmt::format("expected a list of {} strings", length));
  }
  std::vector<std::string> out;
  for (const Json& item : value->as_array()) {
    if (!item.is_string()) return reject(key, "expected a list of strings");
    out.push_back(item.as_string());
  }
  return out;
}

Result<std::vector<int32_t>> ConfigReader::integers(std::string_view key, size_t length) const {
  const Json* value = find(key);
  if (value == nullptr || !value->is_array() || value->as_array().size() != length) {
    return reject(key, fmt::format("expected a list of {} integers", length));
  }
  std::vector<int32_t> out;
  for (const Json& item : value->as_array()) {
    constexpr int64_t kLimit = int64_t{1} << 30;
    if (!item.is_int() || item.as_int() < -kLimit || item.as_int() > kLimit) {
      return reject(key, "expected a list of integers");
    }
    out.push_back(static_cast<int32_t>(item.as_int()));
  }
  return out;
}

Result<ConfigReader> ConfigReader::object(std::string_view key) const {
  const Json* value = find(key);
  if (value == nullptr || !value->is_object()) return reject(key, "expected an object");
  return ConfigReader(*value, fmt::format("{}: {}", path_, key));
}

Status ConfigReader::require_text(std::string_view key, std::string_view absent_is,
                                  std::initializer_list<std::string_view> accepted) const {
  TRY(const std::string value, text_or(key, absent_is));
  if (std::find(accepted.begin(), accepted.end(), value) != accepted.end()) return {};
  std::string list;
  for (const std::string_view item : accepted)
    list += fmt::format("{}\"{}\"", list.empty() ? "" : ", ", item);
  return refuse(key, "supported: " + list);
}

}  // namespace ashlar
