#include <algorithm>
#include <cmath>

#include "text/template/characters.h"
#include "text/template/operators.h"
#include "text/template/print.h"
#include "text/utf8.h"

namespace ashlar::text::jinja {
namespace {

constexpr int kMaxDepth = 100;

void append_unicode_escape(uint32_t unit, std::string* out) {
  *out += fmt::format("\\u{:04x}", unit);
}

void append_json_string(std::string_view text, bool ensure_ascii, std::string* out) {
  *out += '"';
  for (size_t i = 0; i < text.size();) {
    const Utf8Step step = read_utf8(text, i);
    i += step.length;
    const auto code = static_cast<uint32_t>(step.code);
    switch (code) {
      case '"': *out += "\\\""; continue;
      case '\\': *out += "\\\\"; continue;
      case '\n': *out += "\\n"; continue;
      case '\r': *out += "\\r"; continue;
      case '\t': *out += "\\t"; continue;
      case '\f': *out += "\\f"; continue;
      case '\b': *out += "\\b"; continue;
      default: break;
    }
    if (code < 0x20 || (ensure_ascii && code > 0x7E && code < 0x10000)) {
      append_unicode_escape(code, out);
    } else if (ensure_ascii && code >= 0x10000) {
      append_unicode_escape(0xD800 + ((code - 0x10000) >> 10), out);
      append_unicode_escape(0xDC00 + ((code - 0x10000) & 0x3FF), out);
    } else {
      append_utf8(step.code, out);
    }
  }
  *out += '"';
}

std::string json_of_real(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value < 0 ? "-Infinity" : "Infinity";
  return repr_of_real(value);
}

class JsonPrinter {
 public:
  JsonPrinter(Heap& heap, const JsonStyle& style, std::string* out)
      : heap_(heap), style_(style), out_(out) {}

  Status print(const Value& value, int depth) {
    TRY_STATUS(heap_.spend(1));
    if (out_->size() > heap_.limits().output_bytes) {
      return error(Code::exhausted, "tojson: more than {}, the limit of one rendering",
                   human_bytes(heap_.limits().output_bytes));
    }
    if (depth > kMaxDepth) return invalid("tojson: a value nests more than {} deep", kMaxDepth);
    switch (value.kind()) {
      case Kind::none: *out_ += "null"; return {};
      case Kind::boolean: *out_ += value.as_bool() ? "true" : "false"; return {};
      case Kind::integer: *out_ += fmt::format("{}", value.as_int()); return {};
      case Kind::real: *out_ += json_of_real(value.as_double()); return {};
      case Kind::string:
        append_json_string(value.as_string(), style_.ensure_ascii, out_);
        return {};
      case Kind::dict: return object(*value.as_dict(), depth);
      default: break;
    }
    if (is_shape(value, Shape::list) || is_shape(value, Shape::tuple)) {
      return array(value.as_sequence()->items, depth);
    }
    if (value.is(Kind::undefined)) return invalid("tojson: {}", value.absence_text());
    return invalid("tojson: a value of type {} is not JSON", value.type_name());
  }

 private:
  void new_line(int depth) {
    if (!style_.pretty) return;
    *out_ += '\n';
    for (int i = 0; i < depth; ++i) *out_ += style_.indent;
  }

  Status array(const std::vector<Value>& items, int depth) {
    *out_ += '[';
    bool first = true;
    for (const Value& item : items) {
      if (!std::exchange(first, false)) *out_ += style_.item_separator;
      new_line(depth + 1);
      TRY_STATUS(print(item, depth + 1));
    }
    if (!first) new_line(depth);
    *out_ += ']';
    return {};
  }

  Status object(const Dict& dict, int depth) {
    std::vector<std::pair<Value, Value>> entries = dict.entries;
    if (style_.sort_keys) TRY_STATUS(sort_entries(heap_, &entries));
    *out_ += '{';
    bool first = true;
    for (const auto& [key, value] : entries) {
      if (!std::exchange(first, false)) *out_ += style_.item_separator;
      new_line(depth + 1);
      TRY_STATUS(print_key(key));
      *out_ += style_.key_separator;
      TRY_STATUS(print(value, depth + 1));
    }
    if (!first) new_line(depth);
    *out_ += '}';
    return {};
  }

  // Keys are strings; other scalars become the string of their JSON.
  Status print_key(const Value& key) {
    if (key.is(Kind::string)) return print(key, 0);
    if (!key.is_number() && !key.is(Kind::none)) {
      return invalid("tojson: a key of type {} is not JSON", key.type_name());
    }
    *out_ += '"';
    TRY_STATUS(print(key, 0));
    *out_ += '"';
    return {};
  }

  Heap& heap_;
  const JsonStyle& style_;
  std::string* out_;
};

}  // namespace

Status append_json(Heap& heap, const Value& value, const JsonStyle& style, std::string* out) {
  return JsonPrinter(heap, style, out).print(value, 0);
}

}  // namespace ashlar::text::jinja
