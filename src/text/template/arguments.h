#pragma once

// How natives take their arguments: Python's binding of positions and names to parameters, and the
// conversions they share.

#include <array>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "text/template/scope.h"
#include "text/template/value.h"

namespace ashlar::text::jinja {

// One value per parameter name, in order; those not passed are `missing`. Invalid when one of the
// first `n_required` is missing, an unknown one is passed, or one is passed twice.
template <size_t N>
Result<std::array<Value, N>> bind(const Args& args, std::string_view function,
                                  const std::array<std::string_view, N>& names,
                                  size_t n_required = 0) {
  std::array<Value, N> bound;
  bound.fill(Value::undefined(Absence::argument, ""));
  if (args.positional.size() > N) {
    return invalid("{} takes at most {} arguments, got {}", function, N, args.positional.size());
  }
  for (size_t i = 0; i < args.positional.size(); ++i) bound[i] = args.positional[i];
  for (const auto& [name, value] : args.keyword) {
    size_t at = 0;
    while (at < N && names[at] != name) ++at;
    if (at == N) return invalid("{} has no parameter \"{}\"", function, excerpt(name));
    if (!bound[at].is_missing()) return invalid("{}: \"{}\" is given twice", function, name);
    bound[at] = value;
  }
  for (size_t i = 0; i < n_required; ++i) {
    if (bound[i].is_missing()) return invalid("{} needs its parameter \"{}\"", function, names[i]);
  }
  return bound;
}

inline Status no_arguments(const Args& args, std::string_view function) {
  if (args.positional.empty() && args.keyword.empty()) return {};
  return invalid("{} takes no arguments", function);
}

// The argument as text, integer or flag; the fallback when it is missing (or none, for integers).
Result<std::string_view> text_argument(const Value& value, std::string_view function,
                                       std::string_view fallback = "");
Result<int64_t> integer_argument(const Value& value, std::string_view function, int64_t fallback);
bool flag_argument(const Value& value, bool fallback);

}  // namespace ashlar::text::jinja
