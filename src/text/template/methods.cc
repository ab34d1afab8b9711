#include "text/template/methods.h"

#include <algorithm>
#include <array>

#include "text/template/arguments.h"
#include "text/template/interpreter.h"
#include "text/template/operators.h"

namespace ashlar::text::jinja {
namespace {

// What Python has beyond our tables: forbidden by the sandbox because it changes its object, or not
// built. Anything else is simply no attribute.
constexpr std::array<std::string_view, 8> kListForbidden = {"append", "clear",  "extend",  "insert",
                                                            "pop",    "remove", "reverse", "sort"};
constexpr std::array<std::string_view, 5> kDictForbidden = {"clear", "pop", "popitem", "setdefault",
                                                            "update"};
constexpr std::array<std::string_view, 8> kTextUnbuilt = {
    "encode",      "expandtabs", "format_map", "isidentifier",
    "isprintable", "maketrans",  "translate",  "isascii"};

template <size_t N>
bool has(const std::array<std::string_view, N>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

Result<Value> list_copy(Interpreter& run, const Value& self, const Args& args) {
  TRY_STATUS(no_arguments(args, "copy"));
  return run.heap().list(self.as_sequence()->items);
}

Result<Value> list_count(Interpreter& run, const Value& self, const Args& args) {
  TRY(const auto p, bind<1>(args, "count", {"value"}, 1));
  int64_t n = 0;
  for (const Value& item : self.as_sequence()->items) {
    TRY(const bool same, equals(run.heap(), item, p[0]));
    n += same ? 1 : 0;
  }
  return Value::integer(n);
}

Result<Value> list_index(Interpreter& run, const Value& self, const Args& args) {
  TRY(const auto p, bind<1>(args, "index", {"value"}, 1));
  const auto& items = self.as_sequence()->items;
  for (size_t i = 0; i < items.size(); ++i) {
    TRY(const bool same, equals(run.heap(), items[i], p[0]));
    if (same) return Value::integer(static_cast<int64_t>(i));
  }
  return invalid("index: the value is not in the list");
}

Result<Value> dict_get(Interpreter& run, const Value& self, const Args& args) {
  if (!args.keyword.empty()) return invalid("get takes no named arguments");
  TRY(const auto p, bind<2>(args, "get", {"key", "default"}, 1));
  TRY(const Value* found, find_key(run.heap(), *self.as_dict(), p[0]));
  if (found != nullptr) return *found;
  return p[1].is_missing() ? Value::none() : p[1];
}

Result<Value> dict_keys(Interpreter& run, const Value& self, const Args& args) {
  TRY_STATUS(no_arguments(args, "keys"));
  std::vector<Value> keys;
  for (const auto& [key, value] : self.as_dict()->entries) keys.push_back(key);
  return run.heap().sequence(Shape::keys, std::move(keys));
}

Result<Value> dict_values(Interpreter& run, const Value& self, const Args& args) {
  TRY_STATUS(no_arguments(args, "values"));
  std::vector<Value> values;
  for (const auto& [key, value] : self.as_dict()->entries) values.push_back(value);
  return run.heap().sequence(Shape::values, std::move(values));
}

Result<Value> dict_items(Interpreter& run, const Value& self, const Args& args) {
  TRY_STATUS(no_arguments(args, "items"));
  return run.heap().sequence(Shape::items, pairs_of(run.heap(), *self.as_dict()));
}

Result<Value> dict_copy(Interpreter& run, const Value& self, const Args& args) {
  TRY_STATUS(no_arguments(args, "copy"));
  return run.heap().dict(self.as_dict()->entries);
}

constexpr std::array<NativeRow, 3> kListMethods = {
    {{"copy", list_copy}, {"count", list_count}, {"index", list_index}}};
constexpr std::array<NativeRow, 5> kDictMethods = {{{"copy", dict_copy},
                                                    {"get", dict_get},
                                                    {"items", dict_items},
                                                    {"keys", dict_keys},
                                                    {"values", dict_values}}};

Value bound(Heap& heap, const Value& self, std::span<const NativeRow> table,
            std::string_view name) {
  for (const NativeRow& row : table) {
    if (row.name == name) {
      return Value::of(heap.callable({.name = row.name, .native = row.call, .self = self}));
    }
  }
  return Value();
}

Value macro_attribute(Heap& heap, const Value& self, std::string_view name) {
  const Macro& macro = *self.as_callable()->macro;
  if (name == "name") return Value::string(macro.name);
  if (name == "caller") return Value::boolean(macro.uses_caller);
  if (name == "catch_kwargs") return Value::boolean(macro.uses_kwargs);
  if (name == "catch_varargs") return Value::boolean(macro.uses_varargs);
  if (name != "arguments") return Value::undefined(Absence::attribute, name, "Macro");
  std::vector<Value> names;
  for (const std::string& parameter : macro.parameters) names.push_back(Value::string(parameter));
  return heap.list(std::move(names));
}

Value forbidden(const Value& self, std::string_view name) {
  return Value::undefined(Absence::unsafe, name, self.type_name());
}

}  // namespace

std::vector<Value> pairs_of(Heap& heap, const Dict& dict) {
  std::vector<Value> pairs;
  pairs.reserve(dict.entries.size());
  for (const auto& [key, value] : dict.entries) pairs.push_back(heap.tuple({key, value}));
  return pairs;
}

Result<Value> method(Heap& heap, const Value& value, std::string_view name) {
  Value found;
  if (name.starts_with("__") && name.ends_with("__")) return forbidden(value, name);
  switch (value.kind()) {
    case Kind::string:
      found = bound(heap, value, text_methods(), name);
      if (found.is(Kind::undefined) && has(kTextUnbuilt, name)) {
        return unsupported("the string method \"{}\" is not supported", name);
      }
      break;
    case Kind::dict:
      found = bound(heap, value, kDictMethods, name);
      if (found.is(Kind::undefined) && has(kDictForbidden, name)) return forbidden(value, name);
      if (name == "fromkeys") return unsupported("the dict method \"fromkeys\" is not supported");
      break;
    case Kind::sequence:
      if (is_shape(value, Shape::list)) {
        found = bound(heap, value, kListMethods, name);
        if (found.is(Kind::undefined) && has(kListForbidden, name)) return forbidden(value, name);
      } else if (!is_shape(value, Shape::generator) && name != "copy") {
        found = bound(heap, value, kListMethods, name);
      }
      break;
    case Kind::space:
      for (const auto& [member, held] : value.as_space()->members) {
        if (member == name) return held;
      }
      break;
    case Kind::callable:
      if (value.as_callable()->macro != nullptr) return macro_attribute(heap, value, name);
      break;
    default: break;
  }
  if (!found.is(Kind::undefined)) return found;
  return Value::undefined(Absence::attribute, name, value.type_name());
}

}  // namespace ashlar::text::jinja
