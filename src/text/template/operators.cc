#include "text/template/operators.h"

#include <cmath>

#include "text/template/format.h"
#include "text/template/print.h"

namespace ashlar::text::jinja {
namespace {

const char* symbol(Op op) {
  static constexpr const char* kSymbols[] = {
      "+", "-", "*", "/", "//", "%", "**", "==", "!=", "<", "<=", ">", ">=", "in", "not in"};
  return kSymbols[static_cast<size_t>(op)];
}

Error wrong_types(Op op, const Value& a, const Value& b) {
  return invalid("\"{}\" does not work between {} and {}", symbol(op), a.type_name(),
                 b.type_name());
}

Error overflow() { return unsupported("an integer does not fit 64 bits"); }

int64_t floor_divide(int64_t a, int64_t b) {
  const int64_t quotient = a / b;
  return a % b != 0 && (a < 0) != (b < 0) ? quotient - 1 : quotient;
}

Result<Value> integer_power(int64_t base, int64_t exponent) {
  if (exponent < 0) {
    if (base == 0) return invalid("0 cannot be raised to a negative power");
    return Value::real(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
  }
  int64_t result = 1;
  for (; exponent > 0; exponent >>= 1) {
    if ((exponent & 1) != 0 && __builtin_mul_overflow(result, base, &result)) return overflow();
    if (exponent > 1 && __builtin_mul_overflow(base, base, &base)) return overflow();
  }
  return Value::integer(result);
}

Result<Value> on_integers(Op op, int64_t a, int64_t b) {
  int64_t result = 0;
  switch (op) {
    case Op::add:
      if (__builtin_add_overflow(a, b, &result)) return overflow();
      return Value::integer(result);
    case Op::sub:
      if (__builtin_sub_overflow(a, b, &result)) return overflow();
      return Value::integer(result);
    case Op::mul:
      if (__builtin_mul_overflow(a, b, &result)) return overflow();
      return Value::integer(result);
    case Op::pow: return integer_power(a, b);
    default: break;
  }
  if (b == 0) return invalid("division by zero");
  if (op == Op::div) return Value::real(static_cast<double>(a) / static_cast<double>(b));
  if (b == -1) {  // the one quotient that overflows is of the least integer
    return op == Op::mod ? Result<Value>(Value::integer(0)) : on_integers(Op::sub, 0, a);
  }
  if (op == Op::floor_div) return Value::integer(floor_divide(a, b));
  return Value::integer(a - floor_divide(a, b) * b);
}

Result<Value> on_reals(Op op, double a, double b) {
  switch (op) {
    case Op::add: return Value::real(a + b);
    case Op::sub: return Value::real(a - b);
    case Op::mul: return Value::real(a * b);
    case Op::pow: {
      if (a == 0 && b < 0) return invalid("0.0 cannot be raised to a negative power");
      const double power = std::pow(a, b);
      if (a < 0 && std::isnan(power)) return unsupported("complex numbers are not supported");
      if (std::isinf(power) && std::isfinite(a) && std::isfinite(b)) {
        return invalid("the result of \"**\" is out of range");
      }
      return Value::real(power);
    }
    default: break;
  }
  if (b == 0) return invalid("division by zero");
  if (op == Op::div) return Value::real(a / b);
  double remainder = std::fmod(a, b);
  if (remainder != 0 && (remainder < 0) != (b < 0)) remainder += b;
  if (op == Op::floor_div) return Value::real(std::floor((a - remainder) / b + 0.5));
  return Value::real(remainder == 0 ? std::copysign(0.0, b) : remainder);
}

Result<Value> concatenate(Heap& heap, const Value& a, const Value& b) {
  const std::string_view left = a.as_string(), right = b.as_string();
  TRY_STATUS(heap.spend(1 + right.size() / 16));
  if (a.is_safe() == b.is_safe()) {
    TRY_STATUS(heap.afford(left.size() + right.size()));
    return Value::string(heap.join(left, right), a.is_safe());
  }
  const std::string escaped = escape_html(a.is_safe() ? right : left);
  TRY_STATUS(heap.afford(left.size() + right.size() + escaped.size()));
  return Value::string(a.is_safe() ? heap.join(left, escaped) : heap.join(escaped, right), true);
}

Result<Value> repeat(Heap& heap, const Value& value, int64_t times) {
  const auto n = static_cast<uint64_t>(std::max<int64_t>(0, times));
  const bool text = value.is(Kind::string);
  const uint64_t one =
      text ? value.as_string().size() : value.as_sequence()->items.size() * sizeof(Value);
  uint64_t bytes = 0;
  if (__builtin_mul_overflow(n, one, &bytes)) bytes = ~uint64_t{0} >> 1;
  TRY_STATUS(heap.afford(bytes));
  TRY_STATUS(heap.spend(bytes / 16));
  if (text) {
    std::string out;
    out.reserve(bytes);
    for (uint64_t i = 0; one > 0 && i < n; ++i) out += value.as_string();
    return heap.text(out, value.is_safe());
  }
  const Sequence& source = *value.as_sequence();
  std::vector<Value> items;
  items.reserve(source.items.size() * (one > 0 ? n : 0));
  for (uint64_t i = 0; one > 0 && i < n; ++i) {
    items.insert(items.end(), source.items.begin(), source.items.end());
  }
  return heap.sequence(source.shape, std::move(items));
}

bool is_list_or_tuple(const Value& value) {
  return is_shape(value, Shape::list) || is_shape(value, Shape::tuple);
}

Result<Value> append(Heap& heap, const Sequence& a, const Sequence& b) {
  const size_t n = a.items.size() + b.items.size();
  TRY_STATUS(heap.afford(n * sizeof(Value)));
  TRY_STATUS(heap.spend(n));
  std::vector<Value> items;
  items.reserve(n);
  items.insert(items.end(), a.items.begin(), a.items.end());
  items.insert(items.end(), b.items.begin(), b.items.end());
  return heap.sequence(a.shape, std::move(items));
}

}  // namespace

Status require_defined(const Value& value) {
  if (value.is(Kind::undefined)) return invalid("{}", value.absence_text());
  return {};
}

bool is_true(const Value& value) {
  switch (value.kind()) {
    case Kind::undefined:
    case Kind::none: return false;
    case Kind::boolean:
    case Kind::integer: return value.as_int() != 0;
    case Kind::real: return value.as_double() != 0;
    case Kind::string: return !value.as_string().empty();
    case Kind::dict: return !value.as_dict()->entries.empty();
    case Kind::sequence:
      return is_shape(value, Shape::generator) || !value.as_sequence()->items.empty();
    default: return true;
  }
}

Result<Value> arithmetic(Heap& heap, Op op, const Value& a, const Value& b) {
  TRY_STATUS(require_defined(a));
  if (op == Op::mod && a.is(Kind::string)) return format_percent(heap, a, b);
  TRY_STATUS(require_defined(b));
  if (a.is_number() && b.is_number()) {
    if (a.is_integral() && b.is_integral()) return on_integers(op, a.as_int(), b.as_int());
    return on_reals(op, a.as_double(), b.as_double());
  }
  if (op == Op::add) {
    if (a.is(Kind::string) && b.is(Kind::string)) return concatenate(heap, a, b);
    if (is_list_or_tuple(a) && is_list_or_tuple(b) &&
        a.as_sequence()->shape == b.as_sequence()->shape) {
      return append(heap, *a.as_sequence(), *b.as_sequence());
    }
  }
  if (op == Op::mul) {
    if (b.is_integral() && (a.is(Kind::string) || is_list_or_tuple(a))) {
      return repeat(heap, a, b.as_int());
    }
    if (a.is_integral() && (b.is(Kind::string) || is_list_or_tuple(b))) {
      return repeat(heap, b, a.as_int());
    }
  }
  return wrong_types(op, a, b);
}

Result<Value> negative(const Value& value) {
  TRY_STATUS(require_defined(value));
  if (value.is_integral()) return on_integers(Op::sub, 0, value.as_int());
  if (value.is(Kind::real)) return Value::real(-value.as_double());
  return invalid("\"-\" does not work on {}", value.type_name());
}

Result<Value> positive(const Value& value) {
  TRY_STATUS(require_defined(value));
  if (value.is_integral()) return Value::integer(value.as_int());
  if (value.is(Kind::real)) return value;
  return invalid("\"+\" does not work on {}", value.type_name());
}

std::string escape_html(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&#34;"; break;
      case '\'': out += "&#39;"; break;
      default: out += c;
    }
  }
  return out;
}

}  // namespace ashlar::text::jinja
