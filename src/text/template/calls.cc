#include <algorithm>

#include "text/template/interpreter.h"
#include "text/template/operators.h"

namespace ashlar::text::jinja {

// `caller` is what a call block passes besides the arguments written in the call.
Result<Value> Interpreter::call_expression(const Expr& expr, Scope* scope, const Value* caller) {
  TRY(const Value callee, evaluate(expr.parts[0], scope));
  TRY(Args args, arguments(expr, scope));
  if (caller != nullptr) args.keyword.emplace_back("caller", *caller);
  return call(callee, args);
}

Result<Value> Interpreter::call(const Value& callee, const Args& args) {
  TRY_STATUS(require_defined(callee));
  if (callee.is(Kind::loop)) return recurse(*callee.as_loop(), args);
  if (!callee.is(Kind::callable)) {
    return invalid("a value of type {} cannot be called", callee.type_name());
  }
  const Callable& callable = *callee.as_callable();
  if (callable.macro != nullptr) return call_macro(callable, args);
  return callable.native(*this, callable.self, args);
}

Result<Value> Interpreter::call_macro(const Callable& callable, const Args& args) {
  const Nested nested(&depth_);
  TRY_STATUS(enter());
  Scope* const scope = heap_.scope(callable.scope);
  TRY_STATUS(bind_parameters(*callable.macro, args, scope));
  TRY_STATUS(bind_extras(*callable.macro, args, scope));
  return capture(callable.macro->body, scope);
}

Status Interpreter::bind_parameters(const Macro& macro, const Args& args, Scope* scope) {
  const size_t n = macro.parameters.size();
  const size_t n_required = n - macro.defaults.size();
  for (size_t i = 0; i < n; ++i) {
    const std::string& name = macro.parameters[i];
    const auto named = std::find_if(args.keyword.begin(), args.keyword.end(),
                                    [&](const auto& row) { return row.first == name; });
    if (i < args.positional.size()) {
      scope->set(name, args.positional[i]);
    } else if (named != args.keyword.end()) {
      scope->set(name, named->second);
    } else if (i >= n_required) {
      TRY(const Value value, evaluate(macro.defaults[i - n_required], scope));
      scope->set(name, value);
    } else {
      scope->set(name, Value::undefined(
                           Absence::hint,
                           heap_.keep(fmt::format("the parameter \"{}\" was not provided", name))));
    }
  }
  return {};
}

// What the parameters did not take goes to caller, kwargs and varargs, where the macro uses them.
Status Interpreter::bind_extras(const Macro& macro, const Args& args, Scope* scope) {
  const size_t n = macro.parameters.size();
  const auto parameter = [&](std::string_view name) {
    return std::find(macro.parameters.begin(), macro.parameters.end(), name);
  };
  const auto takes = [&](bool uses, std::string_view name) {
    return uses && parameter(name) == macro.parameters.end();
  };
  const bool takes_kwargs = takes(macro.uses_kwargs, "kwargs");
  const bool takes_varargs = takes(macro.uses_varargs, "varargs");
  if (takes(macro.uses_caller, "caller")) {
    scope->set("caller", Value::undefined(Absence::hint, "no caller is defined"));
  }
  std::vector<std::pair<Value, Value>> extra;
  for (const auto& [name, value] : args.keyword) {
    const auto known = parameter(name);
    const bool taken =
        known != macro.parameters.end() &&
        static_cast<size_t>(known - macro.parameters.begin()) >= args.positional.size();
    if (taken) continue;
    if (name == "caller" && macro.uses_caller) {
      scope->set("caller", value);
    } else if (takes_kwargs) {
      extra.emplace_back(Value::string(name), value);
    } else {
      return invalid("the macro \"{}\" takes no argument \"{}\"", macro.name, excerpt(name));
    }
  }
  if (takes_kwargs) scope->set("kwargs", heap_.dict(std::move(extra)));
  std::vector<Value> rest;
  for (size_t i = n; i < args.positional.size(); ++i) rest.push_back(args.positional[i]);
  if (takes_varargs) {
    scope->set("varargs", heap_.tuple(std::move(rest)));
  } else if (!rest.empty()) {
    return invalid("the macro \"{}\" takes at most {} arguments, got {}", macro.name, n,
                   args.positional.size());
  }
  return {};
}

void Interpreter::note_boundary() {
  if (loops_ > 1 || out_ != text_) return;
  if (boundaries_.empty() || boundaries_.back() < out_->size()) boundaries_.push_back(out_->size());
}

Status Interpreter::run_loop(const For& node, const Value& items, Scope* outer, int depth0) {
  TRY(Sequence* const sequence, iterate(heap_, items));
  Loop* const loop =
      heap_.loop({.node = &node, .outer = outer, .items = sequence, .depth0 = depth0});
  Scope* scope = heap_.scope(outer);
  bool completed = false;  // some pass reached the end of the body
  const Nested nested(&loops_);
  while (true) {
    note_boundary();
    TRY(const std::optional<Value> value, advance(*loop));
    if (!value) break;
    if (scope->captured) {
      scope = heap_.scope(outer);
    } else {
      scope->variables.clear();
    }
    scope->set("loop", Value::of(loop));
    TRY_STATUS(assign(node.target, *value, scope));
    TRY(const Flow flow, block(node.body, scope));
    if (flow == Flow::leave) break;
    completed = completed || flow == Flow::next;
  }
  if (completed || node.otherwise.empty()) return {};
  TRY_STATUS(block(node.otherwise, heap_.scope(outer)));
  return {};
}

Result<Value> Interpreter::recurse(const Loop& loop, const Args& args) {
  if (!loop.node->recursive) return invalid("only a loop marked \"recursive\" can be called");
  if (args.positional.size() != 1 || !args.keyword.empty()) {
    return invalid("a recursive loop is called with one sequence");
  }
  const Nested nested(&depth_);
  TRY_STATUS(enter());
  std::string text;
  std::string* const outer = std::exchange(out_, &text);
  const Status done = run_loop(*loop.node, args.positional[0], loop.outer, loop.depth0 + 1);
  out_ = outer;
  if (!done) return done.error();
  TRY_STATUS(heap_.afford(text.size()));
  return heap_.text(text);
}

// The item after the current one, looked for only when it is needed: the loop's condition may
// depend on what the body does before.
Result<std::optional<Value>> Interpreter::peek(Loop& loop) {
  if (loop.after) return loop.after;
  while (loop.next < loop.items->items.size()) {
    const Value& candidate = loop.items->items[loop.next++];
    TRY_STATUS(heap_.spend(1));
    if (loop.node->filtered && !loop.already_filtered) {
      Scope* const scope = heap_.scope(loop.outer);
      TRY_STATUS(assign(loop.node->target, candidate, scope));
      TRY(const Value keep, evaluate(loop.node->filter, scope));
      if (!is_true(keep)) continue;
    }
    loop.after = candidate;
    break;
  }
  return loop.after;
}

Result<std::optional<Value>> Interpreter::advance(Loop& loop) {
  TRY(const std::optional<Value> value, peek(loop));
  loop.after.reset();
  if (!value) return value;
  ++loop.index0;
  loop.before = loop.current;
  loop.current = *value;
  return value;
}

// Of a filtered loop the rest must be filtered now.
Result<int64_t> Interpreter::loop_length(Loop& loop) {
  if (!loop.node->filtered) return static_cast<int64_t>(loop.items->items.size());
  if (loop.length >= 0) return loop.length;
  std::vector<Value> rest;
  while (true) {
    TRY(const std::optional<Value> value, peek(loop));
    if (!value) break;
    rest.push_back(*value);
    loop.after.reset();
  }
  loop.length = loop.index0 + 1 + static_cast<int64_t>(rest.size());
  loop.items = heap_.list(std::move(rest)).as_sequence();
  loop.next = 0;
  loop.already_filtered = true;
  return loop.length;
}

}  // namespace ashlar::text::jinja
