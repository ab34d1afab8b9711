#pragma once

// Text made from patterns: "%s" % x, "{}".format(x), and replacement.

#include <string>
#include <string_view>

#include "base/result.h"
#include "text/template/scope.h"
#include "text/template/value.h"

namespace ashlar::text::jinja {

class Heap;

// pattern % operand: a tuple fills the fields in order, a dict by %(name)s, anything else fills
// one.
Result<Value> format_percent(Heap& heap, const Value& pattern, const Value& operand);

// pattern.format(...): {}, {0}, {name}, with .attribute and [item] and !r or !s; a format
// specification after a colon is unsupported.
Result<Value> format_braces(Interpreter& run, const Value& pattern, const Args& args);

// At most `limit` replacements from the left; all when negative.
Result<std::string> replace(Heap& heap, std::string_view text, std::string_view old_text,
                            std::string_view new_text, int64_t limit);

}  // namespace ashlar::text::jinja
