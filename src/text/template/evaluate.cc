#include <optional>

#include "text/template/interpreter.h"
#include "text/template/methods.h"
#include "text/template/operators.h"
#include "text/template/print.h"

namespace ashlar::text::jinja {
namespace {

constexpr int kMaxContextDepth = 100;

Result<Value> valid_text(const std::string& text) {
  const size_t broken = find_invalid_utf8(text);
  if (broken == std::string_view::npos) return Value::string(text);
  return invalid("a string of the context is not UTF-8 at byte {}", broken);
}

}  // namespace

Result<Value> Interpreter::evaluate(const Expr& expr, Scope* scope) {
  const Nested nested(&depth_);
  Result<Value> value = Value();
  if (Status entered = enter(); !entered) {
    value = std::move(entered).error();
  } else {
    value = compute(expr, scope);
  }
  if (!value && error_line_ == 0) error_line_ = expr.line;
  return value;
}

Result<Value> Interpreter::compute(const Expr& expr, Scope* scope) {
  switch (expr.kind) {
    case ExprKind::constant: return literal(expr);
    case ExprKind::captured: return captured_;
    case ExprKind::name: return variable(expr.name, scope);
    case ExprKind::tuple:
    case ExprKind::list: {
      TRY(std::vector<Value> items, values(expr.parts, 0, scope));
      return heap_.sequence(expr.kind == ExprKind::list ? Shape::list : Shape::tuple,
                            std::move(items));
    }
    case ExprKind::dict: return dict(expr, scope);
    case ExprKind::attribute: {
      TRY(const Value object, evaluate(expr.parts[0], scope));
      return attribute(object, expr.name);
    }
    case ExprKind::item: {
      TRY(const Value object, evaluate(expr.parts[0], scope));
      TRY(const Value key, evaluate(expr.parts[1], scope));
      return item(heap_, object, key);
    }
    case ExprKind::slice: {
      TRY(const std::vector<Value> parts, values(expr.parts, 0, scope));
      return slice(heap_, parts[0], parts[1], parts[2], parts[3]);
    }
    case ExprKind::call: return call_expression(expr, scope, nullptr);
    case ExprKind::filter: {
      TRY(const Value value, evaluate(expr.parts[0], scope));
      TRY(const Args args, arguments(expr, scope));
      return filter(expr.name, value, args);
    }
    case ExprKind::test: {
      TRY(const Value value, evaluate(expr.parts[0], scope));
      TRY(const Args args, arguments(expr, scope));
      TRY(const bool holds, test(expr.name, value, args));
      return Value::boolean(holds);
    }
    case ExprKind::negative: {
      TRY(const Value value, evaluate(expr.parts[0], scope));
      return negative(value);
    }
    case ExprKind::positive: {
      TRY(const Value value, evaluate(expr.parts[0], scope));
      return positive(value);
    }
    case ExprKind::negation: {
      TRY(const Value value, evaluate(expr.parts[0], scope));
      return Value::boolean(!is_true(value));
    }
    case ExprKind::arithmetic: return arithmetic_chain(expr, scope);
    case ExprKind::comparison: return comparison_chain(expr, scope);
    case ExprKind::concat: return concatenation(expr, scope);
    case ExprKind::all_of: return first_decisive(expr, false, scope);
    case ExprKind::any_of: return first_decisive(expr, true, scope);
    case ExprKind::conditional: return conditional(expr, scope);
    case ExprKind::spread: break;  // arguments() takes these apart
  }
  return invalid("\"*\" outside the arguments of a call");
}

Result<Value> Interpreter::literal(const Expr& expr) const {
  if (const bool* flag = std::get_if<bool>(&expr.literal)) return Value::boolean(*flag);
  if (const int64_t* whole = std::get_if<int64_t>(&expr.literal)) return Value::integer(*whole);
  if (const double* real = std::get_if<double>(&expr.literal)) return Value::real(*real);
  if (const auto* text = std::get_if<std::string>(&expr.literal)) return Value::string(*text);
  return Value::none();
}

// Scopes, then what the caller passed, then the functions every template has.
Result<Value> Interpreter::variable(std::string_view name, const Scope* scope) {
  if (const Value* found = scope->find(name)) return *found;
  for (const auto& [known, value] : converted_) {
    if (known == name) return value;
  }
  for (const auto& [known, json] : *context_) {
    if (known != name) continue;
    TRY(const Value value, from_json(json, 0));
    converted_.emplace_back(known, value);
    return value;
  }
  for (const NativeRow& row : globals()) {
    if (row.name == name) {
      return Value::of(heap_.callable({.name = row.name, .native = row.call}));
    }
  }
  if (name == "lipsum") return unsupported("the function \"lipsum\" is not supported");
  return Value::undefined(Absence::name, name);
}

Result<Value> Interpreter::from_json(const Json& json, int depth) {
  TRY_STATUS(heap_.spend(1));
  if (depth > kMaxContextDepth) {
    return invalid("the context nests more than {} deep", kMaxContextDepth);
  }
  if (json.is_null()) return Value::none();
  if (json.is_bool()) return Value::boolean(json.as_bool());
  if (json.is_int()) return Value::integer(json.as_int());
  if (json.is_number()) return Value::real(json.as_double());
  if (json.is_string()) return valid_text(json.as_string());
  if (json.is_array()) {
    std::vector<Value> items;
    items.reserve(json.as_array().size());
    for (const Json& part : json.as_array()) {
      TRY(const Value value, from_json(part, depth + 1));
      items.push_back(value);
    }
    return heap_.list(std::move(items));
  }
  std::vector<std::pair<Value, Value>> entries;
  entries.reserve(json.as_object().size());
  for (const auto& [key, part] : json.as_object()) {
    TRY(const Value name, valid_text(key));
    TRY(const Value value, from_json(part, depth + 1));
    entries.emplace_back(name, value);
  }
  return heap_.dict(std::move(entries));
}

Result<std::vector<Value>> Interpreter::values(const std::vector<Expr>& parts, size_t from,
                                               Scope* scope) {
  std::vector<Value> values;
  values.reserve(parts.size() - from);
  for (size_t i = from; i < parts.size(); ++i) {
    TRY(const Value value, evaluate(parts[i], scope));
    values.push_back(value);
  }
  return values;
}

Result<Value> Interpreter::dict(const Expr& expr, Scope* scope) {
  TRY(const std::vector<Value> parts, values(expr.parts, 0, scope));
  std::vector<std::pair<Value, Value>> entries;
  for (size_t i = 0; i + 1 < parts.size(); i += 2) entries.emplace_back(parts[i], parts[i + 1]);
  return make_dict(heap_, std::move(entries));
}

Result<Value> Interpreter::arithmetic_chain(const Expr& expr, Scope* scope) {
  TRY(Value result, evaluate(expr.parts[0], scope));
  for (size_t i = 0; i < expr.ops.size(); ++i) {
    TRY(const Value right, evaluate(expr.parts[i + 1], scope));
    TRY(result, arithmetic(heap_, expr.ops[i], result, right));
  }
  return result;
}

Result<Value> Interpreter::comparison_chain(const Expr& expr, Scope* scope) {
  TRY(Value left, evaluate(expr.parts[0], scope));
  for (size_t i = 0; i < expr.ops.size(); ++i) {
    TRY(const Value right, evaluate(expr.parts[i + 1], scope));
    TRY(const bool holds, compare(heap_, expr.ops[i], left, right));
    if (!holds) return Value::boolean(false);
    left = right;
  }
  return Value::boolean(true);
}

Result<Value> Interpreter::concatenation(const Expr& expr, Scope* scope) {
  TRY(const std::vector<Value> parts, values(expr.parts, 0, scope));
  std::string_view text;
  for (const Value& part : parts) {
    TRY(const Value piece, to_str(heap_, part));
    TRY_STATUS(heap_.spend(1 + piece.as_string().size() / 16));
    TRY_STATUS(heap_.afford(text.size() + piece.as_string().size()));
    text = text.empty() ? piece.as_string() : heap_.join(text, piece.as_string());
  }
  return Value::string(text);
}

// and, or: the first operand that decides, else the last.
Result<Value> Interpreter::first_decisive(const Expr& expr, bool decisive, Scope* scope) {
  Value value;
  for (const Expr& part : expr.parts) {
    TRY(value, evaluate(part, scope));
    if (is_true(value) == decisive) break;
  }
  return value;
}

Result<Value> Interpreter::conditional(const Expr& expr, Scope* scope) {
  TRY(const Value condition, evaluate(expr.parts[1], scope));
  if (is_true(condition)) return evaluate(expr.parts[0], scope);
  if (expr.parts.size() > 2) return evaluate(expr.parts[2], scope);
  return Value::undefined(Absence::hint,
                          "an \"if\" without \"else\" was false, and its value is used");
}

Result<Args> Interpreter::arguments(const Expr& expr, Scope* scope) {
  Args args;
  for (size_t i = 1; i < expr.parts.size(); ++i) {
    const Expr& part = expr.parts[i];
    TRY(const Value value, evaluate(part.kind == ExprKind::spread ? part.parts[0] : part, scope));
    if (part.kind != ExprKind::spread) {
      args.positional.push_back(value);
      continue;
    }
    TRY_STATUS(require_defined(value));
    TRY(const Sequence* items, iterate(heap_, value));
    args.positional.insert(args.positional.end(), items->items.begin(), items->items.end());
  }
  for (const auto& [name, part] : expr.keywords) {
    TRY(const Value value, evaluate(part, scope));
    if (!name.empty()) {
      args.keyword.emplace_back(name, value);
      continue;
    }
    if (!value.is(Kind::dict)) return invalid("\"**\" needs a dict, not {}", value.type_name());
    for (const auto& [key, entry] : value.as_dict()->entries) {
      if (!key.is(Kind::string)) return invalid("\"**\" needs keys that are strings");
      args.keyword.emplace_back(key.as_string(), entry);
    }
  }
  return args;
}

Result<Value> Interpreter::attribute(const Value& value, std::string_view name) {
  TRY_STATUS(require_defined(value));
  if (value.is(Kind::loop)) return loop_attribute(*value.as_loop(), name);
  TRY(const Value found, method(heap_, value, name));
  if (!found.is_absent(Absence::attribute) || !value.is(Kind::dict)) return found;
  TRY_STATUS(heap_.spend(value.as_dict()->entries.size() / 16));
  const Value* entry = find_key(*value.as_dict(), name);
  return entry != nullptr ? *entry : found;
}

Result<Value> Interpreter::filter(std::string_view name, const Value& value, const Args& args) {
  const NativeRow* row = find_filter(name);
  if (row != nullptr) return row->call(*this, value, args);
  for (const std::string_view unbuilt : {"filesizeformat", "forceescape", "pprint", "random",
                                         "striptags", "urlize", "wordwrap", "xmlattr"}) {
    if (name == unbuilt) return unsupported("the filter \"{}\" is not supported", name);
  }
  return invalid("no filter named \"{}\"", excerpt(name));
}

Result<bool> Interpreter::test(std::string_view name, const Value& value, const Args& args) {
  const NativeRow* row = find_test(name);
  if (row == nullptr) return invalid("no test named \"{}\"", excerpt(name));
  TRY(const Value holds, row->call(*this, value, args));
  return is_true(holds);
}

}  // namespace ashlar::text::jinja
