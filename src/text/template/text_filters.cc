#include <algorithm>
#include <array>

#include "text/template/arguments.h"
#include "text/template/characters.h"
#include "text/template/format.h"
#include "text/template/interpreter.h"
#include "text/template/methods.h"
#include "text/template/operators.h"
#include "text/template/pick.h"
#include "text/template/print.h"
#include "text/utf8.h"

namespace ashlar::text::jinja {
namespace {

// A filter that is str(value).name(arguments).
Result<Value> as_method(Interpreter& run, const Value& value, std::string_view name,
                        const Args& args) {
  TRY(const Value text, to_str(run.heap(), value));
  TRY(const Value bound, method(run.heap(), text, name));
  return run.call(bound, args);
}

Result<Value> capitalize_filter(Interpreter& run, const Value& value, const Args& args) {
  return as_method(run, value, "capitalize", args);
}
Result<Value> lower_filter(Interpreter& run, const Value& value, const Args& args) {
  return as_method(run, value, "lower", args);
}
Result<Value> upper_filter(Interpreter& run, const Value& value, const Args& args) {
  return as_method(run, value, "upper", args);
}
Result<Value> trim_filter(Interpreter& run, const Value& value, const Args& args) {
  return as_method(run, value, "strip", args);
}

Result<Value> center_filter(Interpreter& run, const Value& value, const Args& args) {
  TRY(const auto p, bind<1>(args, "center", {"width"}));
  return as_method(run, value, "center", {{p[0].is_missing() ? Value::integer(80) : p[0]}, {}});
}

// Words begin behind white space, hyphens and opening brackets, unlike in str.title.
Result<Value> title_filter(Interpreter& run, const Value& value, const Args& args) {
  TRY_STATUS(no_arguments(args, "title"));
  TRY(const Value text, to_str(run.heap(), value));
  TRY_STATUS(run.heap().spend(text.as_string().size() / 4));
  std::string out;
  std::string_view rest = text.as_string();
  const auto is_break = [](char32_t code) {
    return is_space(code) || code == '-' || code == '(' || code == '{' || code == '[' ||
           code == '<';
  };
  while (!rest.empty()) {
    const bool breaks = is_break(read_utf8(rest, 0).code);
    size_t end = 0;
    while (end < rest.size() && is_break(read_utf8(rest, end).code) == breaks) {
      end += read_utf8(rest, end).length;
    }
    const size_t first = read_utf8(rest, 0).length;
    out += upper(rest.substr(0, first)) + lower(rest.substr(first, end - first));
    rest.remove_prefix(end);
  }
  return run.heap().text(out);
}

Result<Value> string_filter(Interpreter& run, const Value& value, const Args& args) {
  TRY_STATUS(no_arguments(args, "string"));
  return to_str(run.heap(), value);
}

Result<Value> safe_filter(Interpreter& run, const Value& value, const Args& args) {
  TRY_STATUS(no_arguments(args, "safe"));
  TRY(const Value text, to_str(run.heap(), value));
  return Value::string(text.as_string(), true);
}

Result<Value> escape_filter(Interpreter& run, const Value& value, const Args& args) {
  TRY_STATUS(no_arguments(args, "escape"));
  if (value.is_safe()) return value;
  TRY(const Value text, to_str(run.heap(), value));
  TRY_STATUS(run.heap().afford(text.as_string().size() * 5));
  return run.heap().text(escape_html(text.as_string()), true);
}

Result<Value> replace_filter(Interpreter& run, const Value& value, const Args& args) {
  TRY(const auto p, bind<3>(args, "replace", {"old", "new", "count"}, 2));
  TRY(const Value text, to_str(run.heap(), value));
  TRY(const Value old_text, to_str(run.heap(), p[0]));
  TRY(const Value new_text, to_str(run.heap(), p[1]));
  TRY(const int64_t limit, integer_argument(p[2], "replace", -1));
  TRY(const std::string out,
      replace(run.heap(), text.as_string(), old_text.as_string(), new_text.as_string(), limit));
  return run.heap().text(out);
}

Result<Value> format_filter(Interpreter& run, const Value& value, const Args& args) {
  TRY(const Value pattern, to_str(run.heap(), value));
  if (!args.keyword.empty() && !args.positional.empty()) {
    return invalid("format takes positional or named arguments, not both");
  }
  if (args.keyword.empty())
    return format_percent(run.heap(), pattern, run.heap().tuple(args.positional));
  std::vector<std::pair<Value, Value>> entries;
  for (const auto& [name, entry] : args.keyword) entries.emplace_back(Value::string(name), entry);
  return format_percent(run.heap(), pattern, run.heap().dict(std::move(entries)));
}

Result<Value> join_filter(Interpreter& run, const Value& value, const Args& args) {
  TRY(const auto p, bind<2>(args, "join", {"d", "attribute"}));
  Heap& heap = run.heap();
  Value separator = Value::string("");
  if (!p[0].is_missing()) {
    TRY(separator, to_str(heap, p[0]));
  }
  TRY(const Sequence* items, iterate(heap, value));
  std::string out;
  for (size_t i = 0; i < items->items.size(); ++i) {
    Value part = items->items[i];
    if (!p[1].is_missing() && !p[1].is(Kind::none)) {
      TRY(part, pick(run, part, p[1]));
    }
    if (i > 0) out += separator.as_string();
    TRY_STATUS(append_str(heap, part, &out));
    TRY_STATUS(heap.afford(out.size()));
  }
  TRY_STATUS(heap.spend(1 + out.size() / 16));
  return heap.text(out);
}

Result<Value> indent_filter(Interpreter& run, const Value& value, const Args& args) {
  TRY(const auto p, bind<3>(args, "indent", {"width", "first", "blank"}));
  Heap& heap = run.heap();
  TRY_STATUS(require_defined(value));
  if (!value.is(Kind::string)) return invalid("indent needs a string, not {}", value.type_name());
  std::string margin;
  if (p[0].is(Kind::string)) {
    margin = p[0].as_string();
  } else {
    TRY(const int64_t width, integer_argument(p[0], "indent", 4));
    TRY_STATUS(heap.afford(static_cast<uint64_t>(std::max<int64_t>(0, width))));
    margin.assign(static_cast<size_t>(std::max<int64_t>(0, width)), ' ');
  }
  const bool first = flag_argument(p[1], false), blank = flag_argument(p[2], false);
  std::string text(value.as_string());
  text += '\n';  // so that splitting keeps a last empty line
  const auto lines = split_lines(text, false);
  uint64_t bytes = 0;
  if (__builtin_mul_overflow(margin.size(), lines.size(), &bytes)) bytes = ~uint64_t{0} >> 1;
  TRY_STATUS(heap.afford(bytes));
  TRY_STATUS(heap.spend(1 + (bytes + text.size()) / 16));
  std::string out;
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) out += '\n';
    if (i == 0 ? first : blank || !lines[i].empty()) out += margin;
    out += lines[i];
  }
  return heap.text(out, value.is_safe());
}

Result<Value> truncate_filter(Interpreter& run, const Value& value, const Args& args) {
  TRY(const auto p, bind<4>(args, "truncate", {"length", "killwords", "end", "leeway"}));
  TRY(const int64_t length, integer_argument(p[0], "truncate", 255));
  TRY(const std::string_view end, text_argument(p[2], "truncate", "..."));
  TRY(const int64_t leeway, integer_argument(p[3], "truncate", 5));
  TRY_STATUS(require_defined(value));
  if (!value.is(Kind::string)) return invalid("truncate needs a string, not {}", value.type_name());
  const std::string_view text = value.as_string();
  const int64_t keep = length - count_characters(end);
  if (keep < 0 || leeway < 0) return invalid("truncate: length {} with leeway {}", length, leeway);
  if (count_characters(text) <= length || count_characters(text) - leeway <= length) return value;
  std::string_view kept = text.substr(0, byte_offset(text, keep));
  if (!flag_argument(p[1], false)) kept = kept.substr(0, kept.rfind(' '));
  return run.heap().text(fmt::format("{}{}", kept, end), value.is_safe());
}

Result<Value> wordcount_filter(Interpreter& run, const Value& value, const Args& args) {
  TRY_STATUS(no_arguments(args, "wordcount"));
  TRY(const Value text, to_str(run.heap(), value));
  int64_t n = 0;
  bool inside = false;
  for (size_t i = 0; i < text.as_string().size();) {
    const Utf8Step step = read_utf8(text.as_string(), i);
    const bool word = is_alpha(step.code) || is_numeric(step.code) || step.code == '_';
    n += word && !inside ? 1 : 0;
    inside = word;
    i += step.length;
  }
  return Value::integer(n);
}

// Percent encoding; "/" stays, unless the text is a part of a query string.
std::string url_quote(std::string_view text, bool query) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool plain = (byte >= '0' && byte <= '9') ||
                       ((byte | 0x20) >= 'a' && (byte | 0x20) <= 'z') || c == '_' || c == '.' ||
                       c == '-' || c == '~' || (c == '/' && !query);
    if (plain) {
      out += c;
    } else if (c == ' ' && query) {
      out += '+';
    } else {
      out += fmt::format("%{:02X}", byte);
    }
  }
  return out;
}

Result<Value> urlencode_filter(Interpreter& run, const Value& value, const Args& args) {
  TRY_STATUS(no_arguments(args, "urlencode"));
  Heap& heap = run.heap();
  const bool iterable = value.is(Kind::dict) || value.is(Kind::sequence);
  if (!iterable) {
    TRY(const Value text, to_str(heap, value));
    TRY_STATUS(heap.afford(text.as_string().size() * 3));
    return heap.text(url_quote(text.as_string(), false));
  }
  if (!value.is(Kind::dict))
    return unsupported("urlencode of a {} is not supported", value.type_name());
  std::string out;
  for (const auto& [key, entry] : value.as_dict()->entries) {
    TRY(const Value name, to_str(heap, key));
    TRY(const Value text, to_str(heap, entry));
    if (!out.empty()) out += '&';
    out += url_quote(name.as_string(), true) + "=" + url_quote(text.as_string(), true);
    TRY_STATUS(heap.afford(out.size()));
  }
  return heap.text(out);
}

Result<Value> tojson_filter(Interpreter& run, const Value& value, const Args& args) {
  TRY(const auto p, bind<4>(args, "tojson", {"ensure_ascii", "indent", "separators", "sort_keys"}));
  JsonStyle style{.ensure_ascii = flag_argument(p[0], false),
                  .sort_keys = flag_argument(p[3], false)};
  if (!p[1].is_missing() && !p[1].is(Kind::none)) {
    style.pretty = true;
    style.item_separator = ",";
    if (p[1].is(Kind::string)) {
      style.indent = p[1].as_string();
    } else {
      TRY(const int64_t width, integer_argument(p[1], "tojson", 0));
      if (width > 1000) return unsupported("tojson: an indent of {}, limit 1000", width);
      style.indent.assign(static_cast<size_t>(std::max<int64_t>(0, width)), ' ');
    }
  }
  if (!p[2].is_missing() && !p[2].is(Kind::none)) {
    TRY(const Sequence* pair, iterate(run.heap(), p[2]));
    if (pair->items.size() != 2) return invalid("tojson: separators must be two strings");
    TRY(style.item_separator, text_argument(pair->items[0], "tojson"));
    TRY(style.key_separator, text_argument(pair->items[1], "tojson"));
  }
  std::string out;
  TRY_STATUS(append_json(run.heap(), value, style, &out));
  TRY_STATUS(run.heap().afford(out.size()));
  return run.heap().text(out);
}

constexpr std::array<NativeRow, 18> kFilters = {{
    {"capitalize", capitalize_filter},
    {"center", center_filter},
    {"e", escape_filter},
    {"escape", escape_filter},
    {"format", format_filter},
    {"indent", indent_filter},
    {"join", join_filter},
    {"lower", lower_filter},
    {"replace", replace_filter},
    {"safe", safe_filter},
    {"string", string_filter},
    {"title", title_filter},
    {"tojson", tojson_filter},
    {"trim", trim_filter},
    {"truncate", truncate_filter},
    {"upper", upper_filter},
    {"urlencode", urlencode_filter},
    {"wordcount", wordcount_filter},
}};

}  // namespace

std::span<const NativeRow> text_filters() { return kFilters; }

}  // namespace ashlar::text::jinja
