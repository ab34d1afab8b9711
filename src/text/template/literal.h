#pragma once

// The value of a constant in a template's source: none, a truth value, a number or a string.

#include <cstdint>
#include <string>
#include <variant>

namespace ashlar::text::jinja {

using Literal = std::variant<std::monostate, bool, int64_t, double, std::string>;

}  // namespace ashlar::text::jinja
