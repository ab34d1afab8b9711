#pragma once

// What the interpreter keeps besides values: variables by scope, what can be called, running loops.

#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "text/template/ast.h"
#include "text/template/value.h"

namespace ashlar::text::jinja {

class Interpreter;

// The variables of a template, loop body, macro call or block; a lookup goes outwards.
struct Scope {
  Scope* outer = nullptr;
  std::vector<std::pair<std::string_view, Value>> variables;
  bool captured = false;  // a macro defined here may outlive the iteration

  void set(std::string_view name, const Value& value) {
    for (auto& [known, slot] : variables) {
      if (known == name) {
        slot = value;
        return;
      }
    }
    variables.emplace_back(name, value);
  }
  const Value* find(std::string_view name) const {
    for (const Scope* scope = this; scope != nullptr; scope = scope->outer) {
      for (const auto& [known, value] : scope->variables) {
        if (known == name) return &value;
      }
    }
    return nullptr;
  }
};

struct Args {
  std::vector<Value> positional;
  std::vector<std::pair<std::string_view, Value>> keyword;
};

// Functions, filters and methods of ours: `self` is the filtered value or the method's object.
using Native = Result<Value> (*)(Interpreter& run, const Value& self, const Args& args);

struct NativeRow {
  std::string_view name;
  Native call;
};

// A macro with the scope it was defined in, or a native with its object.
struct Callable {
  std::string_view name;
  const Macro* macro = nullptr;
  Scope* scope = nullptr;
  Native native = nullptr;
  Value self;
};

// A running for loop: what the variable `loop` shows.
struct Loop {
  const For* node = nullptr;
  Scope* outer = nullptr;
  Sequence* items = nullptr;
  size_t next = 0;                // of items, to be looked at
  bool already_filtered = false;  // the items that are left have passed the loop's `if`
  int64_t length = -1;            // of a filtered loop, once asked for
  int64_t index0 = -1;
  int depth0 = 0;
  Value before, current;
  std::optional<Value> after;    // peeked
  std::optional<Value> changed;  // what loop.changed() was asked last
};

}  // namespace ashlar::text::jinja
