#pragma once

// What tests of specs share, here and in rooms above: published configs, edited configs, and what a
// message says. Test code only; no room includes it. REQUIRES ASHLAR_SOURCE_DIR.

#include <algorithm>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "spec/model.h"

namespace ashlar {

inline Json config_text(const std::string& text, const std::string& name = "config.json") {
  auto json = parse_json(text, name);
  CHECK(json.has_value(), "{}", json.error().text);
  return *std::move(json);
}

// One of tests/configs.
inline Json config_file(const std::string& name) {
  const auto text = read_file(std::string(ASHLAR_SOURCE_DIR) + "/tests/configs/" + name);
  CHECK(text.has_value(), "{}", name);
  return config_text(*text, name);
}

// The names of all of them, sorted.
inline std::vector<std::string> published_names() {
  std::vector<std::string> names;
  const std::filesystem::path folder = std::string(ASHLAR_SOURCE_DIR) + "/tests/configs";
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    names.push_back(entry.path().filename());
  }
  std::sort(names.begin(), names.end());
  return names;
}

// A copy of `config` with one key set, or removed when `value` is none.
inline Json with(Json config, const std::string& key, std::optional<Json> value) {
  Json::Object& members = config.as_object();
  std::erase_if(members, [&](const Json::Member& member) { return member.first == key; });
  if (value) members.emplace_back(key, *std::move(value));
  return config;
}

// What a cache must know of a model, which need not run.
inline ModelSpec planned(const Json& config) {
  auto model = read_cache_spec(config);
  CHECK(model.has_value(), "{}", model.error().text);
  return *std::move(model);
}

inline bool mentions(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

}  // namespace ashlar
