#include "base/json.h"

#include <algorithm>
#include <boost/json/basic_parser_impl.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/string_view.hpp>
#include <boost/json/value.hpp>
#include <cmath>
#include <unordered_set>

namespace ashlar {
namespace {

// Builds Json values from Boost's SAX events: values wait on a stack until their container ends.
struct Builder {
  static constexpr std::size_t max_object_size = std::size_t(-1);
  static constexpr std::size_t max_array_size = std::size_t(-1);
  static constexpr std::size_t max_key_size = std::size_t(-1);
  static constexpr std::size_t max_string_size = std::size_t(-1);
  using Ec = boost::json::error_code;
  using Sv = boost::json::string_view;

  std::vector<Json> values;
  std::vector<std::string> keys;
  std::string text;  // the string, key or number being read, in parts
  std::string duplicate;

  bool on_document_begin(Ec&) { return true; }
  bool on_document_end(Ec&) { return true; }
  bool on_object_begin(Ec&) { return true; }
  bool on_array_begin(Ec&) { return true; }
  bool on_comment_part(Sv, Ec&) { return true; }
  bool on_comment(Sv, Ec&) { return true; }

  bool on_array_end(std::size_t n, Ec&) {
    Json::Array array(std::make_move_iterator(values.end() - static_cast<std::ptrdiff_t>(n)),
                      std::make_move_iterator(values.end()));
    values.resize(values.size() - n);
    values.emplace_back(std::move(array));
    return true;
  }
  bool on_object_end(std::size_t n, Ec& ec) {
    Json::Object object;
    object.reserve(n);
    std::unordered_set<std::string_view> seen;
    for (std::size_t i = 0; i < n; ++i) {
      object.emplace_back(std::move(keys[keys.size() - n + i]),
                          std::move(values[values.size() - n + i]));
      if (!seen.insert(object.back().first).second) {
        duplicate = object.back().first;
        ec = boost::json::error::syntax;
        return false;
      }
    }
    values.resize(values.size() - n);
    keys.resize(keys.size() - n);
    values.emplace_back(std::move(object));
    return true;
  }
  bool on_key_part(Sv part, std::size_t, Ec&) {
    return text.append(part.data(), part.size()), true;
  }
  bool on_key(Sv part, std::size_t, Ec&) {
    text.append(part.data(), part.size());
    keys.push_back(std::move(text));
    text.clear();
    return true;
  }
  bool on_string_part(Sv part, std::size_t, Ec&) {
    return text.append(part.data(), part.size()), true;
  }
  bool on_string(Sv part, std::size_t, Ec&) {
    text.append(part.data(), part.size());
    values.emplace_back(std::move(text));
    text.clear();
    return true;
  }
  bool on_number_part(Sv, Ec&) { return true; }
  bool on_int64(int64_t value, Sv, Ec&) { return values.emplace_back(value), true; }
  bool on_uint64(uint64_t value, Sv, Ec&) {
    return values.emplace_back(static_cast<double>(value)), true;
  }
  bool on_double(double value, Sv, Ec&) { return values.emplace_back(value), true; }
  bool on_bool(bool value, Ec&) { return values.emplace_back(value), true; }
  bool on_null(Ec&) { return values.emplace_back(nullptr), true; }
};

void dump_to(const Json& json, std::string* out) {
  if (json.is_null()) {
    *out += "null";
  } else if (json.is_bool()) {
    *out += json.as_bool() ? "true" : "false";
  } else if (json.is_int()) {
    *out += fmt::format("{}", json.as_int());
  } else if (json.is_number()) {
    *out += std::isfinite(json.as_double()) ? fmt::format("{}", json.as_double()) : "null";
  } else if (json.is_string()) {
    *out += boost::json::serialize(boost::json::string_view(json.as_string()));
  } else if (json.is_array()) {
    char separator = '[';
    for (const Json& item : json.as_array()) {
      *out += std::exchange(separator, ',');
      dump_to(item, out);
    }
    *out += json.as_array().empty() ? "[]" : "]";
  } else {
    char separator = '{';
    for (const auto& [key, value] : json.as_object()) {
      *out += std::exchange(separator, ',');
      *out += boost::json::serialize(boost::json::string_view(key)) + ":";
      dump_to(value, out);
    }
    *out += json.as_object().empty() ? "{}" : "}";
  }
}

}  // namespace

const char* Json::kind() const {
  static constexpr const char* kNames[] = {"null",   "boolean", "integer", "number",
                                           "string", "array",   "object"};
  return kNames[value_.index()];
}

const Json* Json::find(std::string_view key) const {
  if (!is_object()) return nullptr;
  const Object& object = as_object();
  const auto it =
      std::find_if(object.begin(), object.end(), [&](const Member& m) { return m.first == key; });
  return it == object.end() ? nullptr : &it->second;
}

std::string Json::dump() const {
  std::string out;
  dump_to(*this, &out);
  return out;
}

Result<Json> parse_json(std::string_view text, std::string_view what, const JsonLimits& limits) {
  if (text.size() > limits.max_bytes) {
    return invalid("{}: {} bytes of JSON, limit {}", what, text.size(), limits.max_bytes);
  }
  boost::json::parse_options options;
  options.max_depth = limits.max_depth;
  boost::json::basic_parser<Builder> parser(options);
  boost::json::error_code ec;
  const size_t used = parser.write_some(false, text.data(), text.size(), ec);
  Builder& builder = parser.handler();
  if (!builder.duplicate.empty()) {
    return invalid("{}: JSON key \"{}\" appears twice in one object", what,
                   excerpt(builder.duplicate));
  }
  if (ec) return invalid("{}: not valid JSON at byte {}: {}", what, used, ec.message());
  const size_t rest = text.find_first_not_of(" \t\r\n", used);
  if (rest != std::string_view::npos) {
    return invalid("{}: text after the end of the JSON document, at byte {}", what, rest);
  }
  CHECK(builder.values.size() == 1);
  return std::move(builder.values.front());
}

}  // namespace ashlar
