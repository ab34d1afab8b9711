#pragma once

// Oniguruma's pattern language (Ruby syntax, UTF-8) rewritten for PCRE2; see regex.h.

#include <string>
#include <string_view>

#include "base/result.h"

namespace ashlar::text {

// The PCRE2 pattern (for PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE, newline LF) that matches what
// Oniguruma would match; unsupported names the construct and its byte offset.
Result<std::string> pcre2_from_onig(std::string_view pattern);

}  // namespace ashlar::text
