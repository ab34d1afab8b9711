#pragma once

// Values as text: Python's str(), repr() and json.dumps().

#include <string>
#include <string_view>

#include "base/result.h"
#include "text/template/heap.h"
#include "text/template/value.h"

namespace ashlar::text::jinja {

// Each appends to `out`. Exhausted when `out` grows over the limit of the heap or the value nests
// too deep.
Status append_str(Heap& heap, const Value& value, std::string* out);
Status append_repr(Heap& heap, const Value& value, std::string* out);

// str(value), kept. A string is returned as it is, safe or not.
Result<Value> to_str(Heap& heap, const Value& value);

std::string repr_of_real(double value);
std::string repr_of_string(std::string_view text);

struct JsonStyle {
  bool ensure_ascii = false;
  bool sort_keys = false;
  bool pretty = false;  // a new line for each element, indented by `indent` per level
  std::string indent;
  std::string item_separator = ", ";
  std::string key_separator = ": ";
};

// json.dumps; invalid for values JSON lacks.
Status append_json(Heap& heap, const Value& value, const JsonStyle& style, std::string* out);

}  // namespace ashlar::text::jinja
