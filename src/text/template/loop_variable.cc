#include <array>

#include "text/template/arguments.h"
#include "text/template/interpreter.h"
#include "text/template/operators.h"

namespace ashlar::text::jinja {
namespace {

Result<Value> cycle(Interpreter&, const Value& self, const Args& args) {
  if (args.positional.empty() || !args.keyword.empty()) {
    return invalid("loop.cycle needs the items to cycle through");
  }
  const auto index = static_cast<size_t>(self.as_loop()->index0);
  return args.positional[index % args.positional.size()];
}

Result<Value> changed(Interpreter& run, const Value& self, const Args& args) {
  if (!args.keyword.empty()) return invalid("loop.changed takes no named arguments");
  const Value now = run.heap().tuple(args.positional);
  std::optional<Value>& last = self.as_loop()->changed;
  bool same = false;
  if (last) {
    TRY(same, equals(run.heap(), *last, now));
  }
  last = now;
  return Value::boolean(!same);
}

constexpr std::array<NativeRow, 2> kMethods = {{{"changed", changed}, {"cycle", cycle}}};

}  // namespace

Result<Value> Interpreter::loop_attribute(Loop& loop, std::string_view name) {
  if (name == "index0") return Value::integer(loop.index0);
  if (name == "index") return Value::integer(loop.index0 + 1);
  if (name == "first") return Value::boolean(loop.index0 == 0);
  if (name == "depth0") return Value::integer(loop.depth0);
  if (name == "depth") return Value::integer(loop.depth0 + 1);
  if (name == "length" || name == "revindex" || name == "revindex0") {
    TRY(const int64_t length, loop_length(loop));
    if (name == "length") return Value::integer(length);
    return Value::integer(length - loop.index0 - (name == "revindex0" ? 1 : 0));
  }
  if (name == "last" || name == "nextitem") {
    TRY(const std::optional<Value> next, peek(loop));
    if (name == "last") return Value::boolean(!next);
    return next ? *next : Value::undefined(Absence::hint, "there is no next item");
  }
  if (name == "previtem") {
    if (loop.index0 > 0) return loop.before;
    return Value::undefined(Absence::hint, "there is no previous item");
  }
  for (const NativeRow& row : kMethods) {
    if (row.name != name) continue;
    return Value::of(
        heap_.callable({.name = row.name, .native = row.call, .self = Value::of(&loop)}));
  }
  return Value::undefined(Absence::attribute, name, "LoopContext");
}

}  // namespace ashlar::text::jinja
