#include "text/template/interpreter.h"
#include "text/template/operators.h"
#include "text/template/print.h"

namespace ashlar::text::jinja {
namespace {

// A macro keeps the scopes around it alive: loops must not reuse them for the next item.
void mark_captured(Scope* scope) {
  for (; scope != nullptr && !scope->captured; scope = scope->outer) scope->captured = true;
}

}  // namespace

Status Interpreter::enter() {
  if (depth_ > heap_.limits().depth) {
    return error(Code::exhausted, "nested more than {} deep, the limit of one rendering",
                 heap_.limits().depth);
  }
  return heap_.spend(1);
}

Result<std::string> Interpreter::run(const Block& program, const Json::Object& context) {
  context_ = &context;
  std::string out;
  out_ = &out;
  text_ = &out;
  const Result<Flow> flow = block(program, heap_.scope(nullptr));
  out_ = nullptr;
  text_ = nullptr;
  if (!flow) {
    return Error{flow.error().code, fmt::format("line {}: {}", error_line_, flow.error().text)};
  }
  return out;
}

Result<Interpreter::Flow> Interpreter::block(const Block& block, Scope* scope) {
  for (const Stmt& stmt : block) {
    TRY(const Flow flow, statement(stmt, scope));
    if (flow != Flow::next) return flow;
  }
  return Flow::next;
}

Result<Interpreter::Flow> Interpreter::statement(const Stmt& stmt, Scope* scope) {
  const Nested nested(&depth_);
  Result<Flow> flow = Flow::next;
  if (Status entered = enter(); !entered) {
    flow = std::move(entered).error();
  } else {
    flow = std::visit([&](const auto& node) { return execute(node, scope); }, stmt.node);
  }
  if (!flow && error_line_ == 0) error_line_ = stmt.line;
  return flow;
}

Status Interpreter::write(std::string_view text) {
  if (out_->size() + text.size() > heap_.limits().output_bytes) {
    return error(Code::exhausted, "more than {} of output, the limit of one rendering",
                 human_bytes(heap_.limits().output_bytes));
  }
  *out_ += text;
  return heap_.spend(text.size() / 64);
}

Result<Value> Interpreter::capture(const Block& body, Scope* scope) {
  std::string text;
  std::string* const outer = std::exchange(out_, &text);
  const Result<Flow> flow = block(body, scope);
  out_ = outer;
  if (!flow) return flow.error();
  TRY_STATUS(heap_.afford(text.size()));
  return heap_.text(text);
}

Result<Interpreter::Flow> Interpreter::execute(const Text& node, Scope*) {
  TRY_STATUS(write(node.text));
  return Flow::next;
}

Result<Interpreter::Flow> Interpreter::execute(const Output& node, Scope* scope) {
  TRY(const Value value, evaluate(node.value, scope));
  if (value.is(Kind::string)) {
    TRY_STATUS(write(value.as_string()));
  } else {
    TRY_STATUS(append_str(heap_, value, out_));
  }
  return Flow::next;
}

Result<Interpreter::Flow> Interpreter::execute(const If& node, Scope* scope) {
  for (const If::Branch& branch : node.branches) {
    TRY(const Value condition, evaluate(branch.condition, scope));
    if (is_true(condition)) return block(branch.body, scope);
  }
  return block(node.otherwise, scope);
}

Result<Interpreter::Flow> Interpreter::execute(const For& node, Scope* scope) {
  TRY(const Value items, evaluate(node.items, scope));
  TRY_STATUS(run_loop(node, items, scope, 0));
  return Flow::next;
}

Result<Interpreter::Flow> Interpreter::execute(const Set& node, Scope* scope) {
  TRY(const Value value, evaluate(node.value, scope));
  TRY_STATUS(assign(node.target, value, scope));
  return Flow::next;
}

Result<Interpreter::Flow> Interpreter::execute(const SetBlock& node, Scope* scope) {
  TRY(const Value text, capture(node.body, heap_.scope(scope)));
  const Value outer = std::exchange(captured_, text);
  const Result<Value> value = evaluate(node.value, scope);
  captured_ = outer;
  if (!value) return value.error();
  TRY_STATUS(assign(node.target, *value, scope));
  return Flow::next;
}

Result<Interpreter::Flow> Interpreter::execute(const FilterBlock& node, Scope* scope) {
  TRY(const Value text, capture(node.body, heap_.scope(scope)));
  const Value outer = std::exchange(captured_, text);
  const Result<Value> value = evaluate(node.value, scope);
  captured_ = outer;
  if (!value) return value.error();
  TRY_STATUS(append_str(heap_, *value, out_));
  return Flow::next;
}

Result<Interpreter::Flow> Interpreter::execute(const CallBlock& node, Scope* scope) {
  mark_captured(scope);
  const Value caller =
      Value::of(heap_.callable({.name = node.caller.name, .macro = &node.caller, .scope = scope}));
  TRY(const Value value, call_expression(node.call, scope, &caller));
  TRY_STATUS(append_str(heap_, value, out_));
  return Flow::next;
}

Result<Interpreter::Flow> Interpreter::execute(const Macro& node, Scope* scope) {
  mark_captured(scope);
  scope->set(node.name,
             Value::of(heap_.callable({.name = node.name, .macro = &node, .scope = scope})));
  return Flow::next;
}

Result<Interpreter::Flow> Interpreter::execute(const With& node, Scope* scope) {
  std::vector<Value> values;
  for (const Expr& expr : node.values) {
    TRY(const Value value, evaluate(expr, scope));
    values.push_back(value);
  }
  Scope* const inner = heap_.scope(scope);
  for (size_t i = 0; i < values.size(); ++i) {
    TRY_STATUS(assign(node.targets[i], values[i], inner));
  }
  return block(node.body, inner);
}

Result<Interpreter::Flow> Interpreter::execute(const Generation& node, Scope* scope) {
  return block(node.body, heap_.scope(scope));
}

Result<Interpreter::Flow> Interpreter::execute(const Break&, Scope*) { return Flow::leave; }
Result<Interpreter::Flow> Interpreter::execute(const Continue&, Scope*) { return Flow::again; }

Status Interpreter::assign(const Target& target, const Value& value, Scope* scope) {
  if (!target.member.empty()) {
    TRY(const Value space, variable(target.name, scope));
    if (!space.is(Kind::space)) {
      return invalid("cannot assign to \"{}.{}\": {} is no namespace", target.name, target.member,
                     target.name);
    }
    for (auto& [name, slot] : space.as_space()->members) {
      if (name != target.member) continue;
      slot = value;
      return {};
    }
    space.as_space()->members.emplace_back(target.member, value);
    return heap_.spend(space.as_space()->members.size() / 16);
  }
  if (!target.name.empty()) {
    scope->set(target.name, value);
    return {};
  }
  TRY_STATUS(require_defined(value));
  TRY(const Sequence* items, iterate(heap_, value));
  if (items->items.size() != target.parts.size()) {
    return invalid("{} values for {} variables", items->items.size(), target.parts.size());
  }
  for (size_t i = 0; i < target.parts.size(); ++i) {
    TRY_STATUS(assign(target.parts[i], items->items[i], scope));
  }
  return {};
}

}  // namespace ashlar::text::jinja
