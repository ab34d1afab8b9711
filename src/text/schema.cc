#include "text/schema.h"

#include <fmt/format.h>

#include <algorithm>

namespace ashlar::text {
namespace {

Error wrong_kind(std::string_view what, std::string_view key, const Json& value,
                 std::string_view expected) {
  return invalid("tokenizer: {}.{} is {} ({}), expected {}", what, key, value.kind(),
                 excerpt(value.dump()), expected);
}

}  // namespace

const Json& member(const Json& json, std::string_view key) {
  static const Json kNull;
  const Json* found = json.find(key);
  return found == nullptr ? kNull : *found;
}

Result<std::string> type_of(const Json& json, std::string_view what) {
  if (!json.is_object()) {
    return invalid("tokenizer: {} is {} ({}), expected an object", what, json.kind(),
                   excerpt(json.dump()));
  }
  return string_at(json, what, "type");
}

Error unknown_type(std::string_view what, std::string_view type, std::string_view known) {
  return unsupported("tokenizer: {}.type \"{}\" is not supported; known: {}", what, excerpt(type),
                     known);
}

Status only_keys(const Json& json, std::string_view what,
                 std::initializer_list<std::string_view> keys) {
  for (const auto& [key, value] : json.as_object()) {
    if (std::find(keys.begin(), keys.end(), key) == keys.end()) {
      return unsupported("tokenizer: {} has the key \"{}\" = {}; known keys: {}", what,
                         excerpt(key), excerpt(value.dump()), fmt::join(keys, ", "));
    }
  }
  return {};
}

Result<const Json::Array*> array_at(const Json& json, std::string_view what, std::string_view key) {
  const Json& value = member(json, key);
  if (!value.is_array()) return wrong_kind(what, key, value, "an array");
  return &value.as_array();
}

Result<const Json::Object*> object_at(const Json& json, std::string_view what,
                                      std::string_view key) {
  const Json& value = member(json, key);
  if (!value.is_object()) return wrong_kind(what, key, value, "an object");
  return &value.as_object();
}

Result<std::string> string_at(const Json& json, std::string_view what, std::string_view key) {
  const Json& value = member(json, key);
  if (!value.is_string()) return wrong_kind(what, key, value, "a string");
  return value.as_string();
}

Result<int64_t> int_at(const Json& json, std::string_view what, std::string_view key) {
  const Json& value = member(json, key);
  if (!value.is_int()) return wrong_kind(what, key, value, "an integer");
  return value.as_int();
}

Result<bool> bool_at(const Json& json, std::string_view what, std::string_view key,
                     std::optional<bool> fallback) {
  const Json* value = json.find(key);
  if (value == nullptr && fallback) return *fallback;
  if (value == nullptr || !value->is_bool()) {
    return wrong_kind(what, key, member(json, key), "true or false");
  }
  return value->as_bool();
}

}  // namespace ashlar::text
