#include "text/template/arguments.h"

#include "text/template/operators.h"

namespace ashlar::text::jinja {

Result<std::string_view> text_argument(const Value& value, std::string_view function,
                                       std::string_view fallback) {
  if (value.is_missing()) return fallback;
  TRY_STATUS(require_defined(value));
  if (value.is(Kind::string)) return value.as_string();
  return invalid("{} needs a string, not {}", function, value.type_name());
}

Result<int64_t> integer_argument(const Value& value, std::string_view function, int64_t fallback) {
  if (value.is_missing() || value.is(Kind::none)) return fallback;
  TRY_STATUS(require_defined(value));
  if (value.is_integral()) return value.as_int();
  return invalid("{} needs an integer, not {}", function, value.type_name());
}

bool flag_argument(const Value& value, bool fallback) {
  return value.is_missing() ? fallback : is_true(value);
}

}  // namespace ashlar::text::jinja
