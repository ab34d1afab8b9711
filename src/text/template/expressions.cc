#include <algorithm>
#include <array>

#include "text/template/parser.h"

namespace ashlar::text::jinja {

Expr Parser::make(ExprKind kind) const {
  Expr expr;
  expr.kind = kind;
  expr.line = now().line;
  return expr;
}

// A macro that mentions these names takes what they stand for.
void Parser::note_use(std::string_view name) {
  for (Macro* macro : macros_) {
    if (name == "caller") macro->uses_caller = true;
    if (name == "kwargs") macro->uses_kwargs = true;
    if (name == "varargs") macro->uses_varargs = true;
  }
}

bool Parser::tuple_ends() const {
  return now().kind == TokenKind::variable_end || now().kind == TokenKind::block_end ||
         at_symbol(")") || (for_items_ && at_name("recursive"));
}

// One expression, or several with commas: a tuple. REQUIRES no parentheses around it.
Result<Expr> Parser::tuple_or_expression(bool conditional) {
  Expr tuple = make(ExprKind::tuple);
  bool comma = false;
  while (!tuple_ends()) {
    TRY(Expr part, conditional ? expression() : any_of());
    tuple.parts.push_back(std::move(part));
    if (!skip_symbol(",")) break;
    comma = true;
  }
  if (comma) return tuple;
  if (tuple.parts.empty()) return unexpected("an expression");
  Expr only = std::move(tuple.parts.front());
  return only;
}

Result<Expr> Parser::expression() {
  const Nested nested(&depth_);
  TRY_STATUS(too_deep());
  TRY(Expr value, any_of());
  int n_chained = 0;
  while (at_name("if")) {
    if (++n_chained > kMaxChain) return fail("too many \"if\" in a row");
    Expr choice = make(ExprKind::conditional);
    next();
    TRY(Expr condition, any_of());
    choice.parts.push_back(std::move(value));
    choice.parts.push_back(std::move(condition));
    if (skip_name("else")) {
      TRY(Expr otherwise, expression());
      choice.parts.push_back(std::move(otherwise));
    }
    value = std::move(choice);
  }
  return value;
}

Result<Expr> Parser::word_chain(ExprKind kind, Result<Expr> (Parser::*operand)(),
                                std::string_view word) {
  Expr node = make(kind);
  TRY(Expr first, (this->*operand)());
  if (!at_name(word)) return first;
  node.parts.push_back(std::move(first));
  while (skip_name(word)) {
    TRY(Expr part, (this->*operand)());
    node.parts.push_back(std::move(part));
  }
  return node;
}

Result<Expr> Parser::any_of() { return word_chain(ExprKind::any_of, &Parser::all_of, "or"); }
Result<Expr> Parser::all_of() { return word_chain(ExprKind::all_of, &Parser::negation, "and"); }

Result<Expr> Parser::negation() {
  if (!at_name("not")) return comparison();
  const Nested nested(&depth_);
  TRY_STATUS(too_deep());
  Expr node = make(ExprKind::negation);
  next();
  TRY(Expr operand, negation());
  node.parts.push_back(std::move(operand));
  return node;
}

Result<Expr> Parser::comparison() {
  static constexpr std::array<std::pair<std::string_view, Op>, 6> kOps = {{{"==", Op::eq},
                                                                           {"!=", Op::ne},
                                                                           {"<", Op::lt},
                                                                           {"<=", Op::le},
                                                                           {">", Op::gt},
                                                                           {">=", Op::ge}}};
  Expr node = make(ExprKind::comparison);
  TRY(Expr first, sum());
  node.parts.push_back(std::move(first));
  while (true) {
    const auto* row = std::find_if(kOps.begin(), kOps.end(),
                                   [&](const auto& known) { return at_symbol(known.first); });
    if (row != kOps.end()) {
      node.ops.push_back(row->second);
      next();
    } else if (skip_name("in")) {
      node.ops.push_back(Op::in);
    } else if (at_name("not") && peek().kind == TokenKind::name && peek().text == "in") {
      next();
      next();
      node.ops.push_back(Op::not_in);
    } else {
      break;
    }
    TRY(Expr operand, sum());
    node.parts.push_back(std::move(operand));
  }
  if (!node.ops.empty()) return node;
  Expr only = std::move(node.parts.front());
  return only;
}

Result<Expr> Parser::chain(ExprKind kind, Result<Expr> (Parser::*operand)(),
                           std::initializer_list<std::pair<std::string_view, Op>> ops) {
  Expr node = make(kind);
  TRY(Expr first, (this->*operand)());
  node.parts.push_back(std::move(first));
  while (true) {
    const auto* row = std::find_if(ops.begin(), ops.end(),
                                   [&](const auto& known) { return at_symbol(known.first); });
    if (row == ops.end()) break;
    node.ops.push_back(row->second);
    next();
    TRY(Expr part, (this->*operand)());
    node.parts.push_back(std::move(part));
  }
  if (!node.ops.empty()) return node;
  Expr only = std::move(node.parts.front());
  return only;
}

Result<Expr> Parser::sum() {
  return chain(ExprKind::arithmetic, &Parser::concat, {{"+", Op::add}, {"-", Op::sub}});
}
Result<Expr> Parser::concat() {
  return chain(ExprKind::concat, &Parser::product, {{"~", Op::add}});
}
Result<Expr> Parser::product() {
  return chain(ExprKind::arithmetic, &Parser::power,
               {{"*", Op::mul}, {"/", Op::div}, {"//", Op::floor_div}, {"%", Op::mod}});
}
Result<Expr> Parser::power() {
  TRY(Expr left, unary(true));
  if (!at_symbol("**")) return left;
  Expr node = make(ExprKind::arithmetic);
  node.parts.push_back(std::move(left));
  while (skip_symbol("**")) {
    node.ops.push_back(Op::pow);
    TRY(Expr right, unary(true));
    node.parts.push_back(std::move(right));
  }
  return node;
}

Result<Expr> Parser::unary(bool with_filters) {
  const Nested nested(&depth_);
  TRY_STATUS(too_deep());
  Expr node;
  if (at_symbol("-") || at_symbol("+")) {
    node = make(at_symbol("-") ? ExprKind::negative : ExprKind::positive);
    next();
    TRY(Expr operand, unary(false));
    node.parts.push_back(std::move(operand));
  } else {
    TRY(node, primary());
  }
  TRY(node, postfix(std::move(node)));
  if (with_filters) return filters_and_tests(std::move(node));
  return node;
}

Result<Expr> Parser::primary() {
  Expr node = make(ExprKind::constant);
  switch (now().kind) {
    case TokenKind::name: {
      const std::string& name = now().text;
      if (name == "true" || name == "True" || name == "false" || name == "False") {
        node.literal = name == "true" || name == "True";
      } else if (name != "none" && name != "None") {
        node.kind = ExprKind::name;
        node.name = name;
        note_use(name);
      }
      next();
      return node;
    }
    case TokenKind::string: {
      std::string text;
      for (; now().kind == TokenKind::string; next()) text += now().text;
      node.literal = std::move(text);
      return node;
    }
    case TokenKind::number:
      node.literal = now().number;
      next();
      return node;
    default: break;
  }
  if (at_symbol("(")) return parenthesized();
  if (at_symbol("[")) return list();
  if (at_symbol("{")) return dict();
  return unexpected("an expression");
}

Result<Expr> Parser::parenthesized() {
  const bool for_items = std::exchange(for_items_, false);
  Expr empty = make(ExprKind::tuple);
  next();
  if (skip_symbol(")")) {
    for_items_ = for_items;
    return empty;
  }
  TRY(Expr inner, tuple_or_expression(true));
  TRY_STATUS(expect_symbol(")"));
  for_items_ = for_items;
  return inner;
}

Result<Expr> Parser::list() {
  Expr node = make(ExprKind::list);
  next();
  while (!at_symbol("]")) {
    TRY(Expr item, expression());
    node.parts.push_back(std::move(item));
    if (!at_symbol("]")) TRY_STATUS(expect_symbol(","));
  }
  next();
  return node;
}

Result<Expr> Parser::dict() {
  Expr node = make(ExprKind::dict);
  next();
  while (!at_symbol("}")) {
    TRY(Expr key, expression());
    TRY_STATUS(expect_symbol(":"));
    TRY(Expr value, expression());
    node.parts.push_back(std::move(key));
    node.parts.push_back(std::move(value));
    if (!at_symbol("}")) TRY_STATUS(expect_symbol(","));
  }
  next();
  return node;
}

// Chains of subscripts, calls and filters nest to the left: their length counts as depth too.
Result<Expr> Parser::postfix(Expr operand) {
  for (int n = 0;; ++n) {
    if (n > kMaxChain) return fail(fmt::format("more than {} subscripts in a row", kMaxChain));
    if (at_symbol(".") || at_symbol("[")) {
      TRY(operand, subscript(std::move(operand)));
    } else if (at_symbol("(")) {
      TRY(operand, call(std::move(operand)));
    } else {
      return operand;
    }
  }
}

Result<Expr> Parser::filters_and_tests(Expr operand) {
  for (int n = 0;; ++n) {
    if (n > kMaxChain) return fail(fmt::format("more than {} filters in a row", kMaxChain));
    if (skip_symbol("|")) {
      TRY(operand, filter(std::move(operand)));
    } else if (skip_name("is")) {
      TRY(operand, test(std::move(operand)));
    } else if (at_symbol("(")) {
      TRY(operand, call(std::move(operand)));
    } else {
      return operand;
    }
  }
}

Result<std::string> Parser::dotted_name(std::string_view what) {
  TRY(std::string name, identifier(what));
  while (skip_symbol(".")) {
    TRY(const std::string part, identifier(what));
    name += "." + part;
  }
  return name;
}

// Behind "|".
Result<Expr> Parser::filter(Expr operand) {
  Expr node = make(ExprKind::filter);
  TRY(node.name, dotted_name("a filter name"));
  node.parts.push_back(std::move(operand));
  if (at_symbol("(")) TRY_STATUS(arguments(&node));
  return node;
}

// Behind "is". A single argument needs no parentheses: x is divisibleby 3.
Result<Expr> Parser::test(Expr operand) {
  Expr node = make(ExprKind::test);
  const bool negated = skip_name("not");
  TRY(node.name, dotted_name("a test name"));
  node.parts.push_back(std::move(operand));
  const TokenKind kind = now().kind;
  if (at_symbol("(")) {
    TRY_STATUS(arguments(&node));
  } else if (at_name("is")) {
    return fail("tests cannot be chained with \"is\"");
  } else if ((kind == TokenKind::name && !at_name("else") && !at_name("or") && !at_name("and")) ||
             kind == TokenKind::string || kind == TokenKind::number || at_symbol("[") ||
             at_symbol("{")) {
    TRY(Expr argument, primary());
    TRY(argument, postfix(std::move(argument)));
    node.parts.push_back(std::move(argument));
  }
  if (!negated) return node;
  Expr negation = make(ExprKind::negation);
  negation.parts.push_back(std::move(node));
  return negation;
}

Result<Expr> Parser::subscript(Expr operand) {
  Expr node = make(ExprKind::item);
  node.parts.push_back(std::move(operand));
  if (skip_symbol(".")) {
    if (now().kind == TokenKind::name) {
      node.kind = ExprKind::attribute;
      node.name = now().text;
    } else if (now().kind == TokenKind::number && std::holds_alternative<int64_t>(now().number)) {
      node.parts.push_back(make(ExprKind::constant));
      node.parts.back().literal = now().number;
    } else {
      return unexpected("a name or number");
    }
    next();
    return node;
  }
  next();  // [
  if (!at_symbol(":")) {
    TRY(Expr index, expression());
    if (skip_symbol("]")) {
      node.parts.push_back(std::move(index));
      return node;
    }
    if (at_symbol(",")) return unsupported("line {}: a subscript with commas", now().line);
    node.parts.push_back(std::move(index));
  } else {
    node.parts.push_back(make(ExprKind::constant));
  }
  node.kind = ExprKind::slice;
  for (int bound = 0; bound < 2; ++bound) {
    if (!skip_symbol(":") || at_symbol(":") || at_symbol("]")) {
      node.parts.push_back(make(ExprKind::constant));
    } else {
      TRY(Expr value, expression());
      node.parts.push_back(std::move(value));
    }
  }
  TRY_STATUS(expect_symbol("]"));
  return node;
}

Result<Expr> Parser::call(Expr callee) {
  Expr node = make(ExprKind::call);
  node.parts.push_back(std::move(callee));
  TRY_STATUS(arguments(&node));
  return node;
}

Status Parser::arguments(Expr* call) {
  TRY_STATUS(expect_symbol("("));
  while (!at_symbol(")")) {
    TRY_STATUS(argument(call));
    if (!at_symbol(")")) TRY_STATUS(expect_symbol(","));
  }
  next();
  return {};
}

Status Parser::argument(Expr* call) {
  const bool named =
      now().kind == TokenKind::name && peek().kind == TokenKind::symbol && peek().text == "=";
  if (named || at_symbol("**")) {
    const bool after_spread = !call->keywords.empty() && call->keywords.back().name.empty();
    if (after_spread) return fail("an argument after **arguments");
    Keyword keyword;
    if (named) keyword.name = now().text;
    next();
    if (named) next();
    TRY(keyword.value, expression());
    call->keywords.push_back(std::move(keyword));
    return {};
  }
  const bool star = at_symbol("*");
  const bool after_star = call->parts.size() > 1 && call->parts.back().kind == ExprKind::spread;
  if (after_star || (!call->keywords.empty() && !star)) {
    return fail("a positional argument after named ones");
  }
  Expr spread = make(ExprKind::spread);
  if (star) next();
  TRY(Expr value, expression());
  if (star) {
    spread.parts.push_back(std::move(value));
    value = std::move(spread);
  }
  call->parts.push_back(std::move(value));
  return {};
}

}  // namespace ashlar::text::jinja
