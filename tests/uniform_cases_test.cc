// The uniform layout against the reference's own answers: every line of peers/kv_config.jsonl equal
// key by key, or refused with the same kind of error and the same numbers.

#include <gtest/gtest.h>

#include <cctype>
#include <cmath>
#include <set>

#include "base/file.h"
#include "cli/plan_cases.h"

namespace ashlar {
namespace {

std::vector<Json> cases() {
  const auto text = read_file(ASHLAR_SOURCE_DIR "/tests/peers/kv_config.jsonl");
  CHECK(text.has_value());
  std::vector<Json> lines;
  for (size_t from = 0; from < text->size();) {
    const size_t end = std::min(text->find('\n', from), text->size());
    auto line = parse_json(std::string_view(*text).substr(from, end - from), "kv_config.jsonl");
    CHECK(line.has_value());
    lines.push_back(*std::move(line));
    from = end + 1;
  }
  return lines;
}

// Where two documents differ first, as "groups[2].spec.page: 1 / 2"; empty when they do not.
std::string difference(const Json& want, const Json& got, const std::string& at) {
  if (want.is_number() && got.is_number()) {
    // Integers exactly; the JSON reader may give a fraction one unit in the last place off.
    const double slack = want.is_int() ? 0 : 4e-16 * want.as_double();
    if (std::abs(want.as_double() - got.as_double()) <= slack) return "";
  } else if (want.is_array() && got.is_array()) {
    if (want.as_array().size() == got.as_array().size()) {
      for (size_t i = 0; i < want.as_array().size(); ++i) {
        const std::string inner =
            difference(want.as_array()[i], got.as_array()[i], fmt::format("{}[{}]", at, i));
        if (!inner.empty()) return inner;
      }
      return "";
    }
  } else if (want.is_object() && got.is_object()) {
    for (const auto& [key, value] : want.as_object()) {
      const Json* other = got.find(key);
      if (!other) return at + "." + key + ": missing";
      const std::string inner = difference(value, *other, at + "." + key);
      if (!inner.empty()) return inner;
    }
    for (const auto& [key, value] : got.as_object()) {
      if (!want.find(key)) return at + "." + key + ": not expected";
    }
    return "";
  } else if (want.dump() == got.dump()) {
    return "";
  }
  return fmt::format("{}: want {} got {}", at, excerpt(want.dump(), 200), excerpt(got.dump(), 200));
}

// The numbers that a message states, and the layer it names.
std::set<std::string> named(const std::string& text) {
  std::set<std::string> names;
  std::string word;
  bool layer = false;
  for (const char c : text + " ") {
    if (std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '.') {
      word += c;
      continue;
    }
    while (!word.empty() && word.back() == '.') word.pop_back();
    if (layer || (!word.empty() && std::isdigit(static_cast<unsigned char>(word[0])))) {
      names.insert(word);
    }
    if (!word.empty()) layer = word == "Layer" || word == "layer";
    word.clear();
  }
  return names;
}

std::string message_difference(const Json& want, const Json& got) {
  const auto ours = named(got.as_string());
  for (const std::string& name : named(want.as_string())) {
    if (!ours.contains(name)) return "message lacks " + name + ": " + got.as_string();
  }
  return "";
}

std::string case_difference(const Json& want, const Json& got) {
  for (const auto& [key, value] : want.as_object()) {
    const Json* other = got.find(key);
    if (!other) return key + ": missing; got " + excerpt(got.dump(), 300);
    const bool words = key == "message" || key == "block_size_error";
    const std::string found =
        words ? message_difference(value, *other) : difference(value, *other, key);
    if (!found.empty()) return found;
  }
  for (const auto& [key, value] : got.as_object()) {
    if (!want.find(key)) return key + ": not expected; got " + excerpt(value.dump(), 300);
  }
  return "";
}

TEST(UniformCases, EveryLineEqual) {
  size_t equal = 0;
  const std::vector<Json> lines = cases();
  EXPECT_EQ(lines.size(), 140U);
  for (const Json& line : lines) {
    const auto answer = uniform_case(*line.find("input"));
    const std::string& name = line.find("name")->as_string();
    if (!answer) {
      ADD_FAILURE() << name << ": " << answer.error().text;
      continue;
    }
    const std::string found = case_difference(*line.find("expected"), *answer);
    EXPECT_EQ(found, "") << name;
    equal += found.empty();
  }
  RecordProperty("equal", static_cast<int>(equal));
  EXPECT_EQ(equal, lines.size());
}

// Inputs that are no case are errors that name what is wrong, and never an answer.
TEST(UniformCases, MalformedInputNamesTheKey) {
  const auto error_of = [](const char* text) {
    const auto answer = uniform_case(*parse_json(text, "case"));
    return answer ? "answered " + answer->dump() : answer.error().text;
  };
  const std::string rest = R"(,"memory":1048576,"max_model_len":64,"max_in_flight_tokens":64})";
  EXPECT_NE(error_of("[]").find("no object"), std::string::npos);
  EXPECT_NE(error_of("{}").find("memory"), std::string::npos);
  EXPECT_NE(error_of((R"({"layers":[])" + rest).c_str()).find("layers"), std::string::npos);
  EXPECT_NE(error_of((R"({"layers":{"a":{"kind":"odd"}})" + rest).c_str()).find("odd"),
            std::string::npos);
  EXPECT_NE(error_of((R"({"layers":{},"speed":1)" + rest).c_str()).find("speed"),
            std::string::npos);
  const std::string full = R"({"layers":{"a":{"kind":"full","block_size":16,"kv_heads":1,)";
  EXPECT_NE(error_of((full + R"("head_size":0,"esz":2}})" + rest).c_str()).find("head size 0"),
            std::string::npos);
  EXPECT_NE(error_of((full + R"("head_size":64}})" + rest).c_str()).find("esz"), std::string::npos);
  EXPECT_NE(error_of((full + R"("head_size":64,"esz":2,"wide":1}})" + rest).c_str()).find("wide"),
            std::string::npos);
  EXPECT_NE(
      error_of((full + R"("head_size":64,"esz":2,"quant":"INT3"}})" + rest).c_str()).find("INT3"),
      std::string::npos);
}

}  // namespace
}  // namespace ashlar
