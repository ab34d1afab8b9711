#include "text/template/format.h"

#include <charconv>
#include <cmath>

#include "text/template/characters.h"
#include "text/template/interpreter.h"
#include "text/template/operators.h"
#include "text/template/print.h"

namespace ashlar::text::jinja {
namespace {

constexpr int kMaxWidth = 10000;  // of a field; templates align columns, not pages

// %[(name)][flags][width][.precision]type
struct Field {
  std::string_view name;
  bool named = false, minus = false, plus = false, space = false, zero = false, alternate = false;
  int width = 0;
  int precision = -1;
  char type = '\0';
};

Result<int> field_number(std::string_view text, size_t* at) {
  int value = 0;
  const char* begin = text.data() + *at;
  const auto [end, failure] = std::from_chars(begin, text.data() + text.size(), value);
  if (failure == std::errc::result_out_of_range || value > kMaxWidth) {
    return unsupported("a format field wider than {}", kMaxWidth);
  }
  *at += static_cast<size_t>(end - begin);
  return value;
}

// The field behind the "%" at text[*at - 1].
Result<Field> parse_field(std::string_view text, size_t* at) {
  Field field;
  if (text.substr(*at).starts_with('(')) {
    const size_t end = text.find(')', *at);
    if (end == std::string_view::npos) return invalid("a format field without its \")\"");
    field.named = true;
    field.name = text.substr(*at + 1, end - *at - 1);
    *at = end + 1;
  }
  for (; *at < text.size(); ++*at) {
    const char c = text[*at];
    if (c == '-')
      field.minus = true;
    else if (c == '+')
      field.plus = true;
    else if (c == ' ')
      field.space = true;
    else if (c == '0')
      field.zero = true;
    else if (c == '#')
      field.alternate = true;
    else
      break;
  }
  TRY(field.width, field_number(text, at));
  if (text.substr(*at).starts_with('.')) {
    ++*at;
    TRY(field.precision, field_number(text, at));
  }
  if (*at >= text.size()) return invalid("an incomplete format field");
  field.type = text[(*at)++];
  return field;
}

std::string pad(const Field& field, std::string body, size_t n_prefix) {
  const int64_t missing = field.width - count_characters(body);
  if (missing <= 0) return body;
  const auto n = static_cast<size_t>(missing);
  if (field.minus) return body.append(n, ' ');
  if (field.zero && n_prefix != std::string::npos) return body.insert(n_prefix, n, '0');
  return body.insert(0, n, ' ');
}

Result<std::string> format_integer(const Field& field, const Value& value) {
  if (!value.is_number()) {
    return invalid("\"%{}\" needs a number, not {}", field.type, value.type_name());
  }
  if (value.is(Kind::real) && (field.type != 'd' && field.type != 'i' && field.type != 'u')) {
    return invalid("\"%{}\" needs an integer, not float", field.type);
  }
  const double real = value.as_double();
  if (value.is(Kind::real) && !(std::abs(real) < 0x1p63)) {
    return unsupported("an integer does not fit 64 bits");
  }
  const int64_t number = value.is(Kind::real) ? static_cast<int64_t>(real) : value.as_int();
  const uint64_t size =
      number < 0 ? ~static_cast<uint64_t>(number) + 1 : static_cast<uint64_t>(number);
  std::string digits;
  std::string prefix = number < 0 ? "-" : field.plus ? "+" : field.space ? " " : "";
  switch (field.type) {
    case 'x': digits = fmt::format("{:x}", size); break;
    case 'X': digits = fmt::format("{:X}", size); break;
    case 'o': digits = fmt::format("{:o}", size); break;
    default: digits = fmt::format("{}", size);
  }
  if (field.alternate && (field.type == 'x' || field.type == 'X' || field.type == 'o')) {
    prefix += '0';
    prefix += field.type;
  }
  if (field.precision > static_cast<int>(digits.size())) {
    digits.insert(0, static_cast<size_t>(field.precision) - digits.size(), '0');
  }
  return pad(field, prefix + digits, prefix.size());
}

Result<std::string> format_real(const Field& field, const Value& value) {
  if (!value.is_number()) {
    return invalid("\"%{}\" needs a number, not {}", field.type, value.type_name());
  }
  const double number = value.as_double();
  const std::string prefix = std::signbit(number) ? "-" : field.plus ? "+" : field.space ? " " : "";
  const int precision = field.precision < 0 ? 6 : field.precision;
  const double size = std::abs(number);
  std::string digits;
  switch (field.type) {
    case 'f':
    case 'F': digits = fmt::format("{:.{}f}", size, precision); break;
    case 'e': digits = fmt::format("{:.{}e}", size, precision); break;
    case 'E': digits = fmt::format("{:.{}E}", size, precision); break;
    case 'g': digits = fmt::format("{:.{}g}", size, precision); break;
    default: digits = fmt::format("{:.{}G}", size, precision);
  }
  return pad(field, prefix + digits, prefix.size());
}

Result<std::string> format_field(Heap& heap, const Field& field, const Value& value) {
  switch (field.type) {
    case 's':
    case 'r':
    case 'a': {
      if (field.type == 'a') return unsupported("the format \"%a\" is not supported");
      std::string text;
      TRY_STATUS(field.type == 's' ? append_str(heap, value, &text)
                                   : append_repr(heap, value, &text));
      if (field.precision >= 0) text.resize(byte_offset(text, field.precision));
      return pad(field, std::move(text), std::string::npos);
    }
    case 'd':
    case 'i':
    case 'u':
    case 'x':
    case 'X':
    case 'o': return format_integer(field, value);
    case 'e':
    case 'E':
    case 'f':
    case 'F':
    case 'g':
    case 'G': return format_real(field, value);
    case 'c':
      if (value.is(Kind::string) && count_characters(value.as_string()) == 1) {
        return pad(field, std::string(value.as_string()), std::string::npos);
      }
      return unsupported("the format \"%c\" of {} is not supported", value.type_name());
    default:
      return invalid("the format type \"%{}\" is unknown", excerpt(std::string(1, field.type)));
  }
}

}  // namespace

Result<Value> format_percent(Heap& heap, const Value& pattern, const Value& operand) {
  const std::string_view text = pattern.as_string();
  TRY_STATUS(heap.spend(1 + text.size() / 16));
  const bool tuple = is_shape(operand, Shape::tuple);
  const size_t n = tuple ? operand.as_sequence()->items.size() : 1;
  size_t n_used = 0;
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const size_t percent = std::min(text.find('%', at), text.size());
    out += text.substr(at, percent - at);
    at = percent + 1;
    if (percent == text.size()) break;
    TRY(const Field field, parse_field(text, &at));
    if (field.type == '%') {
      out += '%';
      continue;
    }
    Value value;
    if (field.named) {
      if (!operand.is(Kind::dict)) return invalid("\"%(name)\" needs a dict");
      const Value* found = find_key(*operand.as_dict(), field.name);
      if (found == nullptr)
        return invalid("the format has no value for \"{}\"", excerpt(field.name));
      value = *found;
    } else {
      if (n_used >= n) return invalid("not enough values for the format");
      value = tuple ? operand.as_sequence()->items[n_used] : operand;
      ++n_used;
    }
    TRY(const std::string piece, format_field(heap, field, value));
    TRY_STATUS(heap.spend(1 + piece.size() / 16));
    TRY_STATUS(heap.afford(out.size() + piece.size()));
    out += pattern.is_safe() && !value.is_safe() ? escape_html(piece) : piece;
  }
  const bool spare =
      operand.is(Kind::dict) || operand.is(Kind::sequence) ? tuple && n_used < n : n_used < n;
  if (spare) return invalid("not all values of the format were used");
  return heap.text(out, pattern.is_safe());
}

Result<std::string> replace(Heap& heap, std::string_view text, std::string_view old_text,
                            std::string_view new_text, int64_t limit) {
  TRY_STATUS(heap.spend(1 + text.size() / 16));
  std::string out;
  size_t begin = 0;
  for (size_t from = 0; limit != 0; --limit) {
    // An empty text is found between all characters.
    const size_t at = text.find(old_text, from);
    if (at == std::string_view::npos) break;
    out += text.substr(begin, at - begin);
    out += new_text;
    begin = at + old_text.size();
    from = begin;
    if (old_text.empty()) {
      if (at == text.size()) break;
      from = at + byte_offset(text.substr(at), 1);
    }
    TRY_STATUS(heap.spend(1 + new_text.size() / 16));
    TRY_STATUS(heap.afford(out.size()));
  }
  out += text.substr(begin);
  return out;
}

}  // namespace ashlar::text::jinja
