#pragma once

// What filters look at in the items of a sequence: the item itself, or an attribute of it.

#include <string_view>

#include "base/result.h"
#include "text/template/value.h"

namespace ashlar::text::jinja {

class Interpreter;

// item.a.0.b for the path "a.0.b"; item[n] for an integer.
Result<Value> pick(Interpreter& run, const Value& item, const Value& path);

// The same as a key to compare by: without `case_sensitive` strings in lower case. A missing or
// none path is the item itself.
Result<Value> pick_key(Interpreter& run, const Value& item, const Value& path, bool case_sensitive);

}  // namespace ashlar::text::jinja
