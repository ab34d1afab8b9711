#include "text/template/string_literal.h"

#include <charconv>

#include "text/utf8.h"

namespace ashlar::text::jinja {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// Reads up to `limit` digits of a base at text[*at].
char32_t digits(std::string_view text, size_t* at, int base, size_t limit, size_t* n) {
  const size_t end = std::min(text.size(), *at + limit);
  uint32_t value = 0;
  const auto [stop, failure] = std::from_chars(text.data() + *at, text.data() + end, value, base);
  *n = failure == std::errc() ? static_cast<size_t>(stop - (text.data() + *at)) : 0;
  *at += *n;
  return value;
}

// \xHH, \uHHHH, \UHHHHHHHH: `at` is behind the letter.
Status append_code(std::string_view text, size_t n_digits, size_t* at, std::string* out) {
  size_t n = 0;
  const char32_t code = digits(text, at, 16, n_digits, &n);
  if (n != n_digits) return invalid("a string escape needs {} hexadecimal digits", n_digits);
  if (code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) {
    return invalid("the string escape of {:x} is no character", static_cast<uint32_t>(code));
  }
  append_utf8(code, out);
  return {};
}

// Digits with single underscores between them; where they end.
size_t skip_digits(std::string_view text, size_t at) {
  while (at < text.size() &&
         (is_digit(text[at]) || (text[at] == '_' && at > 0 && is_digit(text[at - 1]) &&
                                 at + 1 < text.size() && is_digit(text[at + 1])))) {
    ++at;
  }
  return at;
}

std::string without_underscores(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c != '_') out += c;
  }
  return out;
}

// The end of a fraction and exponent behind the digits that end at `at`; `at` when there is none.
size_t skip_fraction(std::string_view text, size_t at) {
  size_t end = at;
  if (end + 1 < text.size() && text[end] == '.' && is_digit(text[end + 1])) {
    end = skip_digits(text, end + 1);
  }
  if (end < text.size() && (text[end] == 'e' || text[end] == 'E')) {
    size_t exponent = end + 1;
    if (exponent < text.size() && (text[exponent] == '+' || text[exponent] == '-')) ++exponent;
    if (exponent < text.size() && is_digit(text[exponent])) end = skip_digits(text, exponent);
  }
  return end;
}

int base_of(std::string_view text) {
  if (text.size() < 3 || text[0] != '0') return 10;
  const char letter = static_cast<char>(text[1] | 0x20);
  return letter == 'x' ? 16 : letter == 'o' ? 8 : letter == 'b' ? 2 : 10;
}

}  // namespace

Result<std::string> unescape_string(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    if (text[i] != '\\' || i + 1 == text.size()) {
      out += text[i++];
      continue;
    }
    const char c = text[i + 1];
    i += 2;
    static constexpr std::string_view kNames = "\\'\"abfnrtv", kBytes = "\\'\"\a\b\f\n\r\t\v";
    const size_t simple = kNames.find(c);
    if (simple != std::string_view::npos) {
      out += kBytes[simple];
    } else if (c == 'x' || c == 'u' || c == 'U') {
      TRY_STATUS(append_code(text, c == 'x' ? 2 : c == 'u' ? 4 : 8, &i, &out));
    } else if (c >= '0' && c <= '7') {
      size_t n = 0;
      append_utf8(digits(text, &(--i), 8, 3, &n), &out);
    } else if (c == 'N') {
      return unsupported("the string escape \\N{{...}} is not supported; write \\uHHHH");
    } else if (c != '\n') {
      out += '\\';
      out += c;
    }
  }
  return out;
}

Result<Literal> parse_number_literal(std::string_view text, bool real, size_t* length) {
  const int base = base_of(text);
  size_t begin = 0, end = 0;
  if (base != 10) {
    begin = end = 2;
    size_t n = 0;
    while (end < text.size()) {
      size_t at = end + (text[end] == '_' ? 1 : 0);
      if (at >= text.size()) break;
      digits(text, &at, base, 1, &n);
      if (n == 0) break;
      end = at;
    }
    if (end == begin) begin = 0, end = 1;  // "0" and then a name
  } else {
    end = skip_digits(text, 0);
    const size_t whole = real ? skip_fraction(text, end) : end;
    if (whole > end) {
      *length = whole;
      const std::string clean = without_underscores(text.substr(0, whole));
      double value = 0;
      if (std::from_chars(clean.data(), clean.data() + clean.size(), value).ec != std::errc()) {
        return unsupported("the number {} is out of range", excerpt(clean));
      }
      return Literal(value);
    }
    if (text[0] == '0') end = std::min(end, text.find_first_not_of("0_"));
  }
  *length = end;
  const std::string clean = without_underscores(text.substr(begin, end - begin));
  int64_t value = 0;
  if (std::from_chars(clean.data(), clean.data() + clean.size(), value, begin == 0 ? 10 : base)
          .ec != std::errc()) {
    return unsupported("the number {} does not fit 64 bits", excerpt(clean));
  }
  return Literal(value);
}

}  // namespace ashlar::text::jinja
