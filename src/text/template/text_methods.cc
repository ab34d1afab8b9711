#include <algorithm>
#include <array>

#include "text/template/arguments.h"
#include "text/template/characters.h"
#include "text/template/format.h"
#include "text/template/interpreter.h"
#include "text/template/methods.h"
#include "text/template/operators.h"
#include "text/utf8.h"

namespace ashlar::text::jinja {
namespace {

// A method of no arguments that maps the text.
template <std::string (*fn)(std::string_view)>
Result<Value> mapped(Interpreter& run, const Value& self, const Args& args) {
  TRY_STATUS(no_arguments(args, "the string method"));
  TRY_STATUS(run.heap().spend(self.as_string().size() / 4));
  return run.heap().text(fn(self.as_string()), self.is_safe());
}

// Of no arguments: the text is not empty and all its characters are such.
template <bool (*fn)(char32_t)>
Result<Value> all_are(Interpreter& run, const Value& self, const Args& args) {
  TRY_STATUS(no_arguments(args, "the string method"));
  const std::string_view text = self.as_string();
  TRY_STATUS(run.heap().spend(text.size() / 4));
  bool all = !text.empty();
  for (size_t i = 0; all && i < text.size();) {
    const Utf8Step step = read_utf8(text, i);
    all = fn(step.code);
    i += step.length;
  }
  return Value::boolean(all);
}

bool is_alphanumeric(char32_t code) { return is_alpha(code) || is_numeric(code); }

// islower and isupper: some cased character, and none of the other case.
template <bool (*wanted)(char32_t), bool (*other)(char32_t)>
Result<Value> cased(Interpreter& run, const Value& self, const Args& args) {
  TRY_STATUS(no_arguments(args, "the string method"));
  const std::string_view text = self.as_string();
  TRY_STATUS(run.heap().spend(text.size() / 4));
  bool any = false;
  for (size_t i = 0; i < text.size();) {
    const Utf8Step step = read_utf8(text, i);
    if (other(step.code)) return Value::boolean(false);
    any = any || wanted(step.code);
    i += step.length;
  }
  return Value::boolean(any);
}

// Upper case letters begin words and only they do.
Result<Value> is_title(Interpreter& run, const Value& self, const Args& args) {
  TRY_STATUS(no_arguments(args, "istitle"));
  const std::string_view text = self.as_string();
  TRY_STATUS(run.heap().spend(text.size() / 4));
  bool any = false, inside = false;
  for (size_t i = 0; i < text.size();) {
    const Utf8Step step = read_utf8(text, i);
    if (is_cased(step.code) && is_lower(step.code) != inside) return Value::boolean(false);
    inside = is_cased(step.code);
    any = any || inside;
    i += step.length;
  }
  return Value::boolean(any);
}

template <bool left, bool right>
Result<Value> strip_method(Interpreter& run, const Value& self, const Args& args) {
  TRY(const auto p, bind<1>(args, "strip", {"chars"}));
  TRY_STATUS(run.heap().spend(self.as_string().size() / 16));
  std::optional<std::string_view> chars;
  if (!p[0].is_missing() && !p[0].is(Kind::none)) {
    TRY(chars, text_argument(p[0], "strip"));
  }
  return Value::string(strip(self.as_string(), chars, left, right), self.is_safe());
}

Result<Value> strings(Heap& heap, const std::vector<std::string_view>& parts, bool safe) {
  std::vector<Value> items;
  items.reserve(parts.size());
  for (const std::string_view part : parts) items.push_back(Value::string(part, safe));
  TRY_STATUS(heap.spend(items.size()));
  return heap.list(std::move(items));
}

template <bool from_right>
Result<Value> split_method(Interpreter& run, const Value& self, const Args& args) {
  TRY(const auto p, bind<2>(args, "split", {"sep", "maxsplit"}));
  TRY(const int64_t limit, integer_argument(p[1], "split", -1));
  std::optional<std::string_view> separator;
  if (!p[0].is_missing() && !p[0].is(Kind::none)) {
    TRY(separator, text_argument(p[0], "split"));
    if (separator->empty()) return invalid("split: the separator is empty");
  }
  TRY_STATUS(run.heap().afford(self.as_string().size() * sizeof(Value)));
  return strings(run.heap(), split(self.as_string(), separator, limit, from_right), self.is_safe());
}

Result<Value> split_lines_method(Interpreter& run, const Value& self, const Args& args) {
  TRY(const auto p, bind<1>(args, "splitlines", {"keepends"}));
  TRY_STATUS(run.heap().afford(self.as_string().size() * sizeof(Value)));
  return strings(run.heap(), split_lines(self.as_string(), flag_argument(p[0], false)),
                 self.is_safe());
}

template <bool from_right>
Result<Value> partition(Interpreter& run, const Value& self, const Args& args) {
  TRY(const auto p, bind<1>(args, "partition", {"sep"}, 1));
  TRY(const std::string_view separator, text_argument(p[0], "partition"));
  if (separator.empty()) return invalid("partition: the separator is empty");
  const std::string_view text = self.as_string();
  const size_t at = from_right ? text.rfind(separator) : text.find(separator);
  const auto part = [&](std::string_view piece) { return Value::string(piece, self.is_safe()); };
  if (at == std::string_view::npos) {
    if (from_right) return run.heap().tuple({part(""), part(""), self});
    return run.heap().tuple({self, part(""), part("")});
  }
  return run.heap().tuple({part(text.substr(0, at)), part(text.substr(at, separator.size())),
                           part(text.substr(at + separator.size()))});
}

// The part of the text that optional start and end bounds (in characters) select.
struct Window {
  std::string_view text;
  int64_t first = 0;
  bool valid = true;  // false when start lies behind the end
};
Result<Window> window(const Value& self, const Value& start, const Value& end) {
  const std::string_view text = self.as_string();
  const int64_t size = count_characters(text);
  TRY(int64_t from, integer_argument(start, "the string method", 0));
  TRY(int64_t to, integer_argument(end, "the string method", size));
  from = from < 0 ? std::max<int64_t>(0, std::max(from, -size) + size) : from;
  to = std::min(to < 0 ? std::max<int64_t>(0, std::max(to, -size) + size) : to, size);
  if (from > to) return Window{"", from, false};
  const size_t begin = byte_offset(text, from);
  return Window{text.substr(begin, byte_offset(text, to) - begin), from, true};
}

template <bool from_right, bool required>
Result<Value> find_method(Interpreter& run, const Value& self, const Args& args) {
  TRY(const auto p, bind<3>(args, "find", {"sub", "start", "end"}, 1));
  TRY_STATUS(run.heap().spend(self.as_string().size() / 8));
  TRY(const std::string_view part, text_argument(p[0], "find"));
  TRY(const Window in, window(self, p[1], p[2]));
  const size_t at = !in.valid    ? std::string_view::npos
                    : from_right ? in.text.rfind(part)
                                 : in.text.find(part);
  if (at == std::string_view::npos) {
    if (required) return invalid("index: the part is not in the string");
    return Value::integer(-1);
  }
  return Value::integer(in.first + count_characters(in.text.substr(0, at)));
}

Result<Value> count_method(Interpreter& run, const Value& self, const Args& args) {
  TRY(const auto p, bind<3>(args, "count", {"sub", "start", "end"}, 1));
  TRY_STATUS(run.heap().spend(self.as_string().size() / 8));
  TRY(const std::string_view part, text_argument(p[0], "count"));
  TRY(const Window in, window(self, p[1], p[2]));
  return Value::integer(in.valid ? count_of(in.text, part) : 0);
}

template <bool at_end>
Result<Value> affix_test(Interpreter&, const Value& self, const Args& args) {
  TRY(const auto p,
      bind<3>(args, at_end ? "endswith" : "startswith", {"prefix", "start", "end"}, 1));
  TRY(const Window in, window(self, p[1], p[2]));
  const auto holds = [&](const Value& affix) -> Result<bool> {
    TRY(const std::string_view text, text_argument(affix, at_end ? "endswith" : "startswith"));
    return in.valid && (at_end ? in.text.ends_with(text) : in.text.starts_with(text));
  };
  if (!is_shape(p[0], Shape::tuple)) {
    TRY(const bool does, holds(p[0]));
    return Value::boolean(does);
  }
  for (const Value& affix : p[0].as_sequence()->items) {
    TRY(const bool does, holds(affix));
    if (does) return Value::boolean(true);
  }
  return Value::boolean(false);
}

template <bool at_end>
Result<Value> remove_affix(Interpreter&, const Value& self, const Args& args) {
  TRY(const auto p, bind<1>(args, "removeprefix", {"affix"}, 1));
  TRY(const std::string_view affix, text_argument(p[0], "removeprefix"));
  std::string_view text = self.as_string();
  if (!at_end && text.starts_with(affix)) text.remove_prefix(affix.size());
  if (at_end && text.ends_with(affix)) text.remove_suffix(affix.size());
  return Value::string(text, self.is_safe());
}

Result<Value> replace_method(Interpreter& run, const Value& self, const Args& args) {
  TRY(const auto p, bind<3>(args, "replace", {"old", "new", "count"}, 2));
  TRY(const std::string_view old_text, text_argument(p[0], "replace"));
  TRY(const std::string_view new_text, text_argument(p[1], "replace"));
  TRY(const int64_t limit, integer_argument(p[2], "replace", -1));
  TRY(const std::string out, replace(run.heap(), self.as_string(), old_text, new_text, limit));
  return run.heap().text(out, self.is_safe());
}

Result<Value> join_method(Interpreter& run, const Value& self, const Args& args) {
  TRY(const auto p, bind<1>(args, "join", {"iterable"}, 1));
  TRY_STATUS(require_defined(p[0]));
  TRY(const Sequence* items, iterate(run.heap(), p[0]));
  std::string out;
  for (size_t i = 0; i < items->items.size(); ++i) {
    TRY(const std::string_view part, text_argument(items->items[i], "join"));
    TRY_STATUS(run.heap().afford(out.size() + part.size() + self.as_string().size()));
    if (i > 0) out += self.as_string();
    out += part;
  }
  TRY_STATUS(run.heap().spend(1 + out.size() / 16));
  return run.heap().text(out, self.is_safe());
}

// ljust, rjust, center: padded to a width in characters.
enum class Side : uint8_t { left, right, both };
template <Side side>
Result<Value> justify(Interpreter& run, const Value& self, const Args& args) {
  TRY(const auto p, bind<2>(args, "the string method", {"width", "fillchar"}, 1));
  TRY(const int64_t width, integer_argument(p[0], "the string method", 0));
  TRY(const std::string_view fill, text_argument(p[1], "the string method", " "));
  if (count_characters(fill) != 1) return invalid("the fill character must be one character");
  const int64_t missing = std::max<int64_t>(width, 0) - count_characters(self.as_string());
  if (missing <= 0) return self;
  TRY_STATUS(run.heap().afford(static_cast<uint64_t>(missing) * fill.size()));
  // Python puts the odd space of center() to the left when the width is odd too.
  const int64_t before = side == Side::left    ? 0
                         : side == Side::right ? missing
                                               : missing / 2 + (missing & width & 1);
  std::string out;
  for (int64_t i = 0; i < before; ++i) out += fill;
  out += self.as_string();
  for (int64_t i = before; i < missing; ++i) out += fill;
  TRY_STATUS(run.heap().spend(out.size() / 16));
  return run.heap().text(out, self.is_safe());
}

Result<Value> zero_fill(Interpreter& run, const Value& self, const Args& args) {
  TRY(const auto p, bind<1>(args, "zfill", {"width"}, 1));
  TRY(const int64_t width, integer_argument(p[0], "zfill", 0));
  const std::string_view text = self.as_string();
  const int64_t missing = std::max<int64_t>(width, 0) - count_characters(text);
  if (missing <= 0) return self;
  TRY_STATUS(run.heap().afford(static_cast<uint64_t>(missing)));
  const size_t sign = text.starts_with('-') || text.starts_with('+') ? 1 : 0;
  std::string out(text.substr(0, sign));
  out.append(static_cast<size_t>(missing), '0');
  out += text.substr(sign);
  return run.heap().text(out, self.is_safe());
}

Result<Value> format_method(Interpreter& run, const Value& self, const Args& args) {
  return format_braces(run, self, args);
}

constexpr std::array<NativeRow, 39> kMethods = {{
    {"capitalize", mapped<capitalize>},
    {"casefold", mapped<casefold>},
    {"center", justify<Side::both>},
    {"count", count_method},
    {"endswith", affix_test<true>},
    {"find", find_method<false, false>},
    {"format", format_method},
    {"index", find_method<false, true>},
    {"isalnum", all_are<is_alphanumeric>},
    {"isalpha", all_are<is_alpha>},
    {"isdecimal", all_are<is_decimal>},
    {"isdigit", all_are<is_digit>},
    {"islower", cased<is_lower, is_upper>},
    {"isnumeric", all_are<is_numeric>},
    {"isspace", all_are<is_space>},
    {"istitle", is_title},
    {"isupper", cased<is_upper, is_lower>},
    {"join", join_method},
    {"ljust", justify<Side::left>},
    {"lower", mapped<lower>},
    {"lstrip", strip_method<true, false>},
    {"partition", partition<false>},
    {"removeprefix", remove_affix<false>},
    {"removesuffix", remove_affix<true>},
    {"replace", replace_method},
    {"rfind", find_method<true, false>},
    {"rindex", find_method<true, true>},
    {"rjust", justify<Side::right>},
    {"rpartition", partition<true>},
    {"rsplit", split_method<true>},
    {"rstrip", strip_method<false, true>},
    {"split", split_method<false>},
    {"splitlines", split_lines_method},
    {"startswith", affix_test<false>},
    {"strip", strip_method<true, true>},
    {"swapcase", mapped<swapcase>},
    {"title", mapped<title>},
    {"upper", mapped<upper>},
    {"zfill", zero_fill},
}};

}  // namespace

std::span<const NativeRow> text_methods() { return kMethods; }

}  // namespace ashlar::text::jinja
