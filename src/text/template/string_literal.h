#pragma once

// The literals of the template language, which are Python's.

#include <string>
#include <string_view>

#include "base/result.h"
#include "text/template/literal.h"

namespace ashlar::text::jinja {

// The inside of a quoted string, escapes resolved; an unknown escape stays as it is written.
Result<std::string> unescape_string(std::string_view text);

// The number at the start of `text`, which begins with a digit: 12, 1_000, 0x1F, 1.5, 2e-3. With
// `real` false a fraction is not taken along (a.0.1 is two subscripts). `*length` is its bytes.
Result<Literal> parse_number_literal(std::string_view text, bool real, size_t* length);

}  // namespace ashlar::text::jinja
