#pragma once

// The methods of strings, lists, dicts and namespaces that templates may call.

#include <span>
#include <string_view>

#include "base/result.h"
#include "text/template/heap.h"
#include "text/template/scope.h"
#include "text/template/value.h"

namespace ashlar::text::jinja {

// The method of a value, bound to it; undefined when Python has none of this name or its sandbox
// forbids it (what would change a list or dict); unsupported when Python has it and we do not.
Result<Value> method(Heap& heap, const Value& value, std::string_view name);

std::span<const NativeRow> text_methods();

}  // namespace ashlar::text::jinja
