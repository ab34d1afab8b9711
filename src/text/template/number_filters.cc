#include <array>
#include <charconv>
#include <cmath>

#include "text/template/arguments.h"
#include "text/template/characters.h"
#include "text/template/interpreter.h"
#include "text/template/operators.h"

namespace ashlar::text::jinja {
namespace {

// Python's int(text, base): space around it, a sign, single underscores. Nothing when it is none.
std::optional<Result<Value>> integer_of(std::string_view text, int base) {
  text = strip(text, std::nullopt, true, true);
  std::string digits;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '_')
      digits += text[i];
    else if (i == 0 || i + 1 == text.size() || text[i + 1] == '_')
      return std::nullopt;
  }
  const bool minus = digits.starts_with('-');
  if (minus || digits.starts_with('+')) digits.erase(0, 1);
  const std::string_view prefix = base == 16 ? "xX" : base == 8 ? "oO" : base == 2 ? "bB" : "";
  if (digits.size() > 2 && digits[0] == '0' && prefix.find(digits[1]) != std::string_view::npos) {
    digits.erase(0, 2);
  }
  if (minus) digits.insert(0, 1, '-');
  int64_t value = 0;
  const auto [end, failure] =
      std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
  if (end != digits.data() + digits.size() ||
      digits.find_first_of("-+", minus ? 1 : 0) != digits.npos) {
    return std::nullopt;
  }
  if (failure == std::errc::result_out_of_range) {
    return Result<Value>(unsupported("int: {} does not fit 64 bits", excerpt(digits)));
  }
  if (failure != std::errc()) return std::nullopt;
  return Result<Value>(Value::integer(value));
}

// Python's float(text).
std::optional<double> real_of(std::string_view text) {
  text = strip(text, std::nullopt, true, true);
  if (text.starts_with('+')) text.remove_prefix(1);
  if (text.starts_with('+') || (text.starts_with('-') && text.substr(1).starts_with('+'))) {
    return std::nullopt;
  }
  std::string clean;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '_')
      clean += text[i];
    else if (i == 0 || i + 1 == text.size() || text[i - 1] < '0' || text[i - 1] > '9')
      return std::nullopt;
  }
  double value = 0;
  const auto [end, failure] = std::from_chars(clean.data(), clean.data() + clean.size(), value);
  if (clean.empty() || end != clean.data() + clean.size()) return std::nullopt;
  if (failure == std::errc::result_out_of_range) {  // too large, or too small
    const bool tiny =
        clean.find("e-") != std::string::npos || clean.find("E-") != std::string::npos;
    return std::copysign(tiny ? 0.0 : HUGE_VAL, clean.front() == '-' ? -1.0 : 1.0);
  }
  if (failure != std::errc()) return std::nullopt;
  return value;
}

Result<Value> truncated(double value) {
  if (!std::isfinite(value)) return invalid("int: {} is no integer", value);
  if (std::abs(value) >= 0x1p63) return unsupported("int: {} does not fit 64 bits", value);
  return Value::integer(static_cast<int64_t>(value));
}

Result<Value> int_filter(Interpreter&, const Value& value, const Args& args) {
  TRY(const auto p, bind<2>(args, "int", {"default", "base"}));
  TRY(const int64_t base, integer_argument(p[1], "int", 10));
  TRY_STATUS(require_defined(value));
  const Value fallback = p[0].is_missing() ? Value::integer(0) : p[0];
  if (base < 2 || base > 36) return unsupported("int: base {}; known: 2 to 36", base);
  if (value.is_integral()) return Value::integer(value.as_int());
  if (value.is(Kind::real)) {
    if (std::isnan(value.as_double())) return fallback;
    return truncated(value.as_double());
  }
  if (!value.is(Kind::string)) return fallback;
  if (auto whole = integer_of(value.as_string(), static_cast<int>(base))) return *std::move(whole);
  const std::optional<double> real = real_of(value.as_string());
  return real && !std::isnan(*real) ? truncated(*real) : fallback;
}

Result<Value> float_filter(Interpreter&, const Value& value, const Args& args) {
  TRY(const auto p, bind<1>(args, "float", {"default"}));
  TRY_STATUS(require_defined(value));
  if (value.is_number()) return Value::real(value.as_double());
  if (value.is(Kind::string)) {
    if (const auto real = real_of(value.as_string())) return Value::real(*real);
  }
  return p[0].is_missing() ? Value::real(0) : p[0];
}

Result<Value> abs_filter(Interpreter&, const Value& value, const Args& args) {
  TRY_STATUS(no_arguments(args, "abs"));
  TRY_STATUS(require_defined(value));
  if (value.is(Kind::real)) return Value::real(std::abs(value.as_double()));
  if (!value.is_integral()) return invalid("abs needs a number, not {}", value.type_name());
  return value.as_int() < 0 ? negative(value) : positive(value);
}

// To a power of ten below one: halves go to the even neighbour.
Result<Value> round_integer(int64_t value, int64_t n_zeros) {
  int64_t unit = 1;
  for (int64_t i = 0; i < n_zeros; ++i) {
    if (__builtin_mul_overflow(unit, int64_t{10}, &unit)) return Value::integer(0);
  }
  const int64_t rest = value % unit;
  const int64_t whole = value - rest;
  const int64_t size = std::abs(rest);
  const bool away = size > unit - size || (size == unit - size && (whole / unit) % 2 != 0);
  int64_t rounded = whole;
  if (away && __builtin_add_overflow(whole, value < 0 ? -unit : unit, &rounded)) {
    return unsupported("an integer does not fit 64 bits");
  }
  return Value::integer(rounded);
}

Result<Value> round_real(double value, int64_t precision) {
  if (!std::isfinite(value) || precision > 300) return Value::real(value);
  if (precision < -308) return Value::real(std::copysign(0.0, value));
  if (precision < 0) {
    const double unit = std::pow(10.0, static_cast<double>(-precision));
    return Value::real(std::nearbyint(value / unit) * unit);
  }
  const std::string text = fmt::format("{:.{}f}", value, static_cast<int>(precision));
  double rounded = value;
  std::from_chars(text.data(), text.data() + text.size(), rounded);
  return Value::real(rounded);
}

Result<Value> round_filter(Interpreter&, const Value& value, const Args& args) {
  TRY(const auto p, bind<2>(args, "round", {"precision", "method"}));
  TRY(const int64_t precision, integer_argument(p[0], "round", 0));
  TRY(const std::string_view method, text_argument(p[1], "round", "common"));
  TRY_STATUS(require_defined(value));
  if (!value.is_number()) return invalid("round needs a number, not {}", value.type_name());
  if (method == "common") {
    if (!value.is_integral()) return round_real(value.as_double(), precision);
    if (precision >= 0) return Value::integer(value.as_int());
    return round_integer(value.as_int(), precision < -20 ? 20 : -precision);
  }
  if (method != "ceil" && method != "floor")
    return invalid("round: method \"{}\"", excerpt(method));
  const double unit = std::pow(10.0, static_cast<double>(precision));
  const double scaled = value.as_double() * unit;
  if (!std::isfinite(scaled) || unit == 0) return invalid("round: out of range");
  return Value::real((method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / unit);
}

constexpr std::array<NativeRow, 4> kFilters = {
    {{"abs", abs_filter}, {"float", float_filter}, {"int", int_filter}, {"round", round_filter}}};

const NativeRow* find_in(std::span<const NativeRow> table, std::string_view name) {
  for (const NativeRow& row : table) {
    if (row.name == name) return &row;
  }
  return nullptr;
}

}  // namespace

std::span<const NativeRow> number_filters() { return kFilters; }

const NativeRow* find_filter(std::string_view name) {
  for (const auto table : {text_filters(), sequence_filters(), number_filters()}) {
    if (const NativeRow* row = find_in(table, name)) return row;
  }
  return nullptr;
}

const NativeRow* find_test(std::string_view name) { return find_in(tests(), name); }

}  // namespace ashlar::text::jinja
