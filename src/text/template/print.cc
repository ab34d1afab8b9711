#include "text/template/print.h"

#include <charconv>
#include <cmath>

#include "text/template/characters.h"
#include "text/template/scope.h"
#include "text/utf8.h"

namespace ashlar::text::jinja {
namespace {

constexpr int kMaxDepth = 100;  // of lists in lists

Status check_size(const Heap& heap, const std::string& out) {
  if (out.size() > heap.limits().output_bytes) {
    return error(Code::exhausted, "text of more than {}, the limit of one rendering",
                 human_bytes(heap.limits().output_bytes));
  }
  return {};
}

class Printer {
 public:
  Printer(Heap& heap, std::string* out) : heap_(heap), out_(out) {}

  Status repr(const Value& value, int depth) {
    TRY_STATUS(heap_.spend(1));
    TRY_STATUS(check_size(heap_, *out_));
    if (depth > kMaxDepth) return invalid("a value nests more than {} deep", kMaxDepth);
    switch (value.kind()) {
      case Kind::undefined: *out_ += "Undefined"; break;
      case Kind::none: *out_ += "None"; break;
      case Kind::boolean: *out_ += value.as_bool() ? "True" : "False"; break;
      case Kind::integer: *out_ += fmt::format("{}", value.as_int()); break;
      case Kind::real: *out_ += repr_of_real(value.as_double()); break;
      case Kind::string:
        *out_ += value.is_safe() ? fmt::format("Markup({})", repr_of_string(value.as_string()))
                                 : repr_of_string(value.as_string());
        break;
      case Kind::sequence: return sequence(*value.as_sequence(), depth);
      case Kind::dict: return entries(value.as_dict()->entries, depth);
      case Kind::space: return space(*value.as_space(), depth);
      case Kind::callable:
        *out_ += fmt::format("<{} {}>", value.as_callable()->macro ? "Macro" : "function",
                             repr_of_string(value.as_callable()->name));
        break;
      case Kind::loop: *out_ += "<LoopContext>"; break;
    }
    return {};
  }

 private:
  Status items(const std::vector<Value>& items, int depth) {
    bool first = true;
    for (const Value& item : items) {
      if (!std::exchange(first, false)) *out_ += ", ";
      TRY_STATUS(repr(item, depth + 1));
    }
    return {};
  }

  Status sequence(const Sequence& value, int depth) {
    static constexpr std::string_view kOpen[] = {
        "[", "(", "", "dict_keys([", "dict_values([", "dict_items([", ""};
    static constexpr std::string_view kClose[] = {"]", ")", "", "])", "])", "])", ""};
    const auto shape = static_cast<size_t>(value.shape);
    if (value.shape == Shape::generator) {
      *out_ += "<generator object>";
      return {};
    }
    if (value.shape == Shape::range) {
      *out_ += fmt::format("range({}, {}", value.start, value.stop);
      *out_ += value.step == 1 ? ")" : fmt::format(", {})", value.step);
      return {};
    }
    *out_ += kOpen[shape];
    TRY_STATUS(items(value.items, depth));
    if (value.shape == Shape::tuple && value.items.size() == 1) *out_ += ",";
    *out_ += kClose[shape];
    return {};
  }

  Status entries(const std::vector<std::pair<Value, Value>>& entries, int depth) {
    *out_ += "{";
    bool first = true;
    for (const auto& [key, value] : entries) {
      if (!std::exchange(first, false)) *out_ += ", ";
      TRY_STATUS(repr(key, depth + 1));
      *out_ += ": ";
      TRY_STATUS(repr(value, depth + 1));
    }
    *out_ += "}";
    return {};
  }

  Status space(const Space& space, int depth) {
    *out_ += "<Namespace {";
    bool first = true;
    for (const auto& [name, value] : space.members) {
      if (!std::exchange(first, false)) *out_ += ", ";
      *out_ += repr_of_string(name) + ": ";
      TRY_STATUS(repr(value, depth + 1));
    }
    *out_ += "}>";
    return {};
  }

  Heap& heap_;
  std::string* out_;
};

// One character of a repr'd string, which is quoted with `quote`.
void append_escaped(char32_t code, char32_t quote, std::string* out) {
  if (code == quote || code == '\\') {
    *out += '\\';
    append_utf8(code, out);
  } else if (code == '\n') {
    *out += "\\n";
  } else if (code == '\r') {
    *out += "\\r";
  } else if (code == '\t') {
    *out += "\\t";
  } else if (is_printable(code)) {
    append_utf8(code, out);
  } else if (code < 0x100) {
    *out += fmt::format("\\x{:02x}", static_cast<uint32_t>(code));
  } else if (code < 0x10000) {
    *out += fmt::format("\\u{:04x}", static_cast<uint32_t>(code));
  } else {
    *out += fmt::format("\\U{:08x}", static_cast<uint32_t>(code));
  }
}

}  // namespace

// The shortest digits that read back as the value; an exponent from 1e16 on and below 1e-4.
std::string repr_of_real(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[40];
  const auto end =
      std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific).ptr;
  const std::string_view text(buffer, static_cast<size_t>(end - buffer));
  const size_t mark = text.find('e');
  int exponent = 0;
  std::from_chars(text.data() + mark + (text[mark + 1] == '+' ? 2 : 1), end, exponent);
  if (exponent < -4 || exponent >= 16) return std::string(text);
  const auto fixed = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::fixed);
  std::string out(buffer, fixed.ptr);
  return out.find('.') == std::string::npos ? out + ".0" : out;
}

std::string repr_of_string(std::string_view text) {
  const bool single =
      text.find('\'') == std::string_view::npos || text.find('"') != std::string_view::npos;
  const char quote = single ? '\'' : '"';
  std::string out(1, quote);
  for (size_t i = 0; i < text.size();) {
    const Utf8Step step = read_utf8(text, i);
    append_escaped(step.code, static_cast<char32_t>(quote), &out);
    i += step.length;
  }
  return out + quote;
}

Status append_repr(Heap& heap, const Value& value, std::string* out) {
  TRY_STATUS(Printer(heap, out).repr(value, 0));
  return check_size(heap, *out);
}

Status append_str(Heap& heap, const Value& value, std::string* out) {
  if (value.is(Kind::undefined)) return {};
  if (!value.is(Kind::string)) return append_repr(heap, value, out);
  *out += value.as_string();
  return check_size(heap, *out);
}

Result<Value> to_str(Heap& heap, const Value& value) {
  if (value.is(Kind::string)) return value;
  std::string text;
  TRY_STATUS(append_str(heap, value, &text));
  return heap.text(text);
}

}  // namespace ashlar::text::jinja
