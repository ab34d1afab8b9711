#pragma once

// Python's operators on template values. Errors are what Python would raise: an undefined value
// used, types that do not go together, a division by zero; and integers over 64 bits, which Python
// has and we have not.

#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "text/template/ast.h"
#include "text/template/heap.h"
#include "text/template/value.h"

namespace ashlar::text::jinja {

bool is_true(const Value& value);

Result<Value> arithmetic(Heap& heap, Op op, const Value& a, const Value& b);
Result<Value> negative(const Value& value);
Result<Value> positive(const Value& value);

Result<bool> equals(Heap& heap, const Value& a, const Value& b);
Result<bool> less(Heap& heap, const Value& a, const Value& b);
Result<bool> compare(Heap& heap, Op op, const Value& a,
                     const Value& b);  // any comparison, in, not in
Result<bool> contains(Heap& heap, const Value& container, const Value& item);

// len(); iteration as a list (a generator is read to its end).
Result<int64_t> length(Heap& heap, const Value& value);
Result<Sequence*> iterate(Heap& heap, const Value& value);

// value[key], value[start:stop:step]; undefined when there is no such element.
Result<Value> item(Heap& heap, const Value& value, const Value& key);
Result<Value> slice(Heap& heap, const Value& value, const Value& start, const Value& stop,
                    const Value& step);

// The value of a key, or null. REQUIRES nothing of the key: an unhashable one is an error.
Result<const Value*> find_key(Heap& heap, const Dict& dict, const Value& key);
const Value* find_key(const Dict& dict, std::string_view key);
// A dict of these entries, of which later ones replace earlier ones with an equal key.
Result<Value> make_dict(Heap& heap, std::vector<std::pair<Value, Value>> entries);

// Stable sorts, by keys, ascending.
Status sort_values(Heap& heap, std::vector<std::pair<Value, Value>>* keyed, bool reverse);
Status sort_entries(Heap& heap, std::vector<std::pair<Value, Value>>* entries);

// The text escaped for HTML, as Markup does.
std::string escape_html(std::string_view text);

// What to say when a value that must not be undefined is; ok when it is not.
Status require_defined(const Value& value);

}  // namespace ashlar::text::jinja
