#include "text/pretokenizer.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <utility>

#include "text/schema.h"
#include "text/utf8.h"

namespace ashlar::text {
namespace {

constexpr int kMaxDepth = 8;

// The split of GPT-2, which ByteLevel does itself when use_regex is set.
constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

constexpr std::array<std::pair<std::string_view, SplitBehavior>, 5> kBehaviors = {{
    {"Isolated", SplitBehavior::isolated},
    {"Removed", SplitBehavior::removed},
    {"Contiguous", SplitBehavior::contiguous},
    {"MergedWithPrevious", SplitBehavior::merged_with_previous},
    {"MergedWithNext", SplitBehavior::merged_with_next},
}};

struct Stretch {
  Span span;
  bool match = false;
};

// The whole piece as stretches that match and stretches that do not.
Result<std::vector<Stretch>> stretches(const Regex& pattern, bool invert, std::string_view piece,
                                       Matcher& matcher) {
  std::vector<Stretch> all;
  size_t begin = 0;  // of what is not yet in `all`
  size_t last_match_end = std::string_view::npos;
  for (size_t from = 0; from <= piece.size();) {
    Span found;
    TRY(const bool any, matcher.find(pattern, piece, from, &found));
    if (!any) break;
    if (found.begin == found.end && found.end == last_match_end) {
      // An empty match right behind a match does not count: look from the next character on.
      from += from < piece.size() ? read_utf8(piece, from).length : 1;
      continue;
    }
    from = last_match_end = found.end;
    if (begin != found.begin) all.push_back({{begin, found.begin}, invert});
    all.push_back({found, !invert});
    begin = found.end;
  }
  if (begin != piece.size()) all.push_back({{begin, piece.size()}, invert});
  return all;
}

std::vector<Span> merge(const std::vector<Stretch>& all, SplitBehavior behavior) {
  std::vector<Span> out;
  bool last_was_match = false;
  for (const auto& [span, match] : all) {
    const bool first = out.empty();
    bool join = false;
    switch (behavior) {
      case SplitBehavior::isolated: break;
      case SplitBehavior::removed:
        if (match) continue;
        break;
      case SplitBehavior::contiguous: join = !first && match == last_was_match; break;
      case SplitBehavior::merged_with_previous: join = !first && match && !last_was_match; break;
      case SplitBehavior::merged_with_next: join = !first && !match && last_was_match; break;
    }
    if (join) {
      out.back().end = span.end;
    } else {
      out.push_back(span);
    }
    last_was_match = match;
  }
  return out;
}

bool is_numeric(char32_t code) {
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(code));
  return category == UTF8PROC_CATEGORY_ND || category == UTF8PROC_CATEGORY_NL ||
         category == UTF8PROC_CATEGORY_NO;
}

}  // namespace

Result<PreTokenizer> PreTokenizer::from_json(const Json& json) {
  PreTokenizer pre;
  if (!json.is_null()) TRY_STATUS(pre.add(json, 0));
  if (!pre.byte_level_) {
    return unsupported(
        "tokenizer: the pre_tokenizer {} does not end with ByteLevel; known: "
        "[Split | Digits ...,] ByteLevel",
        excerpt(json.dump()));
  }
  return pre;
}

Status PreTokenizer::add(const Json& json, int depth) {
  if (depth > kMaxDepth) return invalid("tokenizer: pre_tokenizer nested over {} deep", kMaxDepth);
  TRY(const std::string type, type_of(json, "pre_tokenizer"));
  if (byte_level_) {
    return unsupported("tokenizer: pre_tokenizer \"{}\" after ByteLevel; known: ByteLevel last",
                       excerpt(type));
  }
  if (type == "Split") return add_split(json);
  if (type == "ByteLevel") return add_byte_level(json);
  if (type == "Digits") {
    TRY_STATUS(only_keys(json, "pre_tokenizer.Digits", {"type", "individual_digits"}));
    TRY(const bool individual, bool_at(json, "pre_tokenizer.Digits", "individual_digits", false));
    steps_.emplace_back(Digits{individual});
    return {};
  }
  if (type != "Sequence") {
    return unknown_type("pre_tokenizer", type, "Split, Digits, ByteLevel, Sequence");
  }
  TRY_STATUS(only_keys(json, "pre_tokenizer.Sequence", {"type", "pretokenizers"}));
  TRY(const Json::Array* parts, array_at(json, "pre_tokenizer", "pretokenizers"));
  for (const Json& part : *parts) TRY_STATUS(add(part, depth + 1));
  return {};
}

Status PreTokenizer::add_split(const Json& json) {
  constexpr std::string_view kWhat = "pre_tokenizer.Split";
  TRY_STATUS(only_keys(json, kWhat, {"type", "pattern", "behavior", "invert"}));
  TRY(const std::string behavior, string_at(json, kWhat, "behavior"));
  TRY(const bool invert, bool_at(json, kWhat, "invert", false));
  const auto row = std::find_if(kBehaviors.begin(), kBehaviors.end(),
                                [&](const auto& known) { return known.first == behavior; });
  if (row == kBehaviors.end()) {
    return unsupported(
        "tokenizer: {}.behavior \"{}\" is not supported; known: Isolated, Removed, "
        "Contiguous, MergedWithPrevious, MergedWithNext",
        kWhat, excerpt(behavior));
  }
  const Json& pattern = member(json, "pattern");
  const Json* regex = pattern.find("Regex");
  const Json* literal = pattern.find("String");
  if (!pattern.is_object() || pattern.as_object().size() != 1 ||
      (regex == nullptr && literal == nullptr) ||
      !(regex != nullptr ? regex : literal)->is_string()) {
    return unsupported(
        "tokenizer: {}.pattern is {}; known: {{\"Regex\": ...}}, {{\"String\": ...}}", kWhat,
        excerpt(pattern.dump()));
  }
  TRY(Regex compiled,
      regex != nullptr ? Regex::compile(regex->as_string()) : Regex::literal(literal->as_string()));
  steps_.emplace_back(Split{std::move(compiled), row->second, invert});
  return {};
}

Status PreTokenizer::add_byte_level(const Json& json) {
  constexpr std::string_view kWhat = "pre_tokenizer.ByteLevel";
  // trim_offsets concerns character offsets, which nothing here reports.
  TRY_STATUS(only_keys(json, kWhat, {"type", "add_prefix_space", "trim_offsets", "use_regex"}));
  TRY(const bool prefix, bool_at(json, kWhat, "add_prefix_space"));
  TRY(const bool use_regex, bool_at(json, kWhat, "use_regex", true));
  if (prefix) steps_.emplace_back(PrefixSpace{});
  if (use_regex) {
    TRY(Regex pattern, Regex::compile(kGpt2Pattern));
    steps_.emplace_back(Split{std::move(pattern), SplitBehavior::isolated, false});
  }
  byte_level_ = true;
  return {};
}

Status PreTokenizer::apply(const Split& step, std::string_view piece, Matcher& matcher,
                           std::vector<std::string_view>* out) {
  TRY(const std::vector<Stretch> all, stretches(step.pattern, step.invert, piece, matcher));
  for (const Span& span : merge(all, step.behavior)) {
    if (span.begin != span.end) out->push_back(piece.substr(span.begin, span.end - span.begin));
  }
  return {};
}

void PreTokenizer::apply(const Digits& step, std::string_view piece,
                         std::vector<std::string_view>* out) {
  size_t begin = 0;
  bool last_numeric = false;
  for (size_t i = 0; i < piece.size();) {
    const Utf8Step character = read_utf8(piece, i);
    const bool numeric = is_numeric(character.code);
    if (i > 0 && (numeric != last_numeric || (numeric && step.individual))) {
      out->push_back(piece.substr(begin, i - begin));
      begin = i;
    }
    last_numeric = numeric;
    i += character.length;
  }
  if (begin < piece.size()) out->push_back(piece.substr(begin));
}

Status PreTokenizer::split(std::string_view text, Matcher& matcher, std::deque<std::string>* spaced,
                           std::vector<std::string_view>* pieces) const {
  if (text.empty()) return {};
  std::vector<std::string_view> now = {text};
  std::vector<std::string_view> next;
  for (const Step& step : steps_) {
    next.clear();
    for (const std::string_view piece : now) {
      if (const auto* split = std::get_if<Split>(&step)) {
        TRY_STATUS(apply(*split, piece, matcher, &next));
      } else if (const auto* digits = std::get_if<Digits>(&step)) {
        apply(*digits, piece, &next);
      } else if (piece.front() == ' ') {
        next.push_back(piece);
      } else {
        next.push_back(spaced->emplace_back(fmt::format(" {}", piece)));
      }
    }
    std::swap(now, next);
  }
  pieces->insert(pieces->end(), now.begin(), now.end());
  return {};
}

}  // namespace ashlar::text
