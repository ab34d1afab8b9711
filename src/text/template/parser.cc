#include "text/template/parser.h"

#include <algorithm>
#include <array>

namespace ashlar::text::jinja {
namespace {

// Tags of Jinja that need other templates or settings, which a chat template does not have.
constexpr std::array<std::string_view, 10> kUnsupportedTags = {
    "block", "extends", "include", "import", "from", "autoescape", "do", "trans", "debug", "print"};

}  // namespace

Result<Block> parse_template(std::string_view source) {
  TRY(std::vector<Token> tokens, tokenize(source));
  return Parser(std::move(tokens)).run();
}

bool Parser::skip_symbol(std::string_view text) {
  if (!at_symbol(text)) return false;
  next();
  return true;
}

bool Parser::skip_name(std::string_view text) {
  if (!at_name(text)) return false;
  next();
  return true;
}

Status Parser::expect_symbol(std::string_view text) {
  if (!skip_symbol(text)) return unexpected(fmt::format("\"{}\"", text));
  return {};
}

Status Parser::expect_name(std::string_view text) {
  if (!skip_name(text)) return unexpected(fmt::format("\"{}\"", text));
  return {};
}

Status Parser::expect(TokenKind kind, std::string_view what) {
  if (now().kind != kind) return unexpected(what);
  next();
  return {};
}

Result<std::string> Parser::identifier(std::string_view what) {
  if (now().kind != TokenKind::name) return unexpected(what);
  std::string name = now().text;
  next();
  return name;
}

Error Parser::fail(std::string_view what) const { return invalid("line {}: {}", now().line, what); }

Error Parser::unexpected(std::string_view wanted) const {
  std::string found;
  switch (now().kind) {
    case TokenKind::end: found = "the end of the template"; break;
    case TokenKind::block_end: found = "\"%}\""; break;
    case TokenKind::variable_end: found = "\"}}\""; break;
    case TokenKind::string: found = fmt::format("the string \"{}\"", excerpt(now().text)); break;
    default: found = fmt::format("\"{}\"", excerpt(now().text));
  }
  return fail(fmt::format("expected {}, found {}", wanted, found));
}

Status Parser::too_deep() const {
  if (depth_ > kMaxDepth) return fail(fmt::format("nested more than {} deep", kMaxDepth));
  return {};
}

Result<Block> Parser::run() {
  TRY(Block block, body({}));
  if (now().kind != TokenKind::end) return unexpected("the end of the template");
  return block;
}

Result<Block> Parser::body(Ends ends) {
  const Nested nested(&depth_);
  TRY_STATUS(too_deep());
  const int line = now().line;
  Block block;
  while (now().kind != TokenKind::end) {
    if (now().kind == TokenKind::data) {
      block.push_back({now().line, Text{now().text}});
      next();
    } else if (now().kind == TokenKind::variable_begin) {
      const int output_line = now().line;
      next();
      TRY(Expr value, tuple_or_expression(true));
      TRY_STATUS(expect(TokenKind::variable_end, "\"}}\""));
      block.push_back({output_line, Output{std::move(value)}});
    } else {
      next();  // block_begin
      if (now().kind == TokenKind::name &&
          std::find(ends.begin(), ends.end(), now().text) != ends.end()) {
        return block;
      }
      TRY(Stmt stmt, statement());
      TRY_STATUS(expect(TokenKind::block_end, "\"%}\""));
      block.push_back(std::move(stmt));
    }
  }
  if (ends.size() > 0) {
    return invalid("line {}: the template ends before \"{}\"", line, *(ends.end() - 1));
  }
  return block;
}

// The body behind a tag that ends here.
Result<Block> Parser::tag_body(Ends ends) {
  skip_symbol(":");
  TRY_STATUS(expect(TokenKind::block_end, "\"%}\""));
  return body(ends);
}

Result<Stmt> Parser::statement() {
  static constexpr std::array<std::pair<std::string_view, Status (Parser::*)(Stmt*)>, 8> kTags = {{
      {"if", &Parser::parse_if},
      {"for", &Parser::parse_for},
      {"set", &Parser::parse_set},
      {"macro", &Parser::parse_macro},
      {"call", &Parser::parse_call},
      {"filter", &Parser::parse_filter_block},
      {"with", &Parser::parse_with},
      {"generation", &Parser::parse_generation},
  }};
  Stmt stmt{now().line, Break{}};
  TRY(const std::string tag, identifier("a tag name"));
  for (const auto& [name, parse] : kTags) {
    if (tag != name) continue;
    TRY_STATUS((this->*parse)(&stmt));
    return stmt;
  }
  if (tag == "break" || tag == "continue") {
    if (n_loops_ == 0) return fail(fmt::format("\"{}\" outside a loop", tag));
    if (tag == "continue") stmt.node = Continue{};
    return stmt;
  }
  if (std::find(kUnsupportedTags.begin(), kUnsupportedTags.end(), tag) != kUnsupportedTags.end()) {
    return unsupported(
        "line {}: the tag \"{}\" is not supported; known: if, for, set, macro, call, "
        "filter, with, generation, break, continue, raw",
        stmt.line, tag);
  }
  return invalid("line {}: unknown tag \"{}\"", stmt.line, excerpt(tag));
}

Status Parser::parse_if(Stmt* out) {
  If node;
  while (true) {
    If::Branch branch;
    TRY(branch.condition, tuple_or_expression(false));
    TRY(branch.body, tag_body({"elif", "else", "endif"}));
    node.branches.push_back(std::move(branch));
    if (!skip_name("elif")) break;
  }
  if (skip_name("else")) {
    TRY(node.otherwise, tag_body({"endif"}));
  }
  skip_name("endif");
  out->node = std::move(node);
  return {};
}

Status Parser::parse_for(Stmt* out) {
  For node;
  TRY(node.target, target(false));
  TRY_STATUS(check_loop_target(node.target));
  TRY_STATUS(expect_name("in"));
  for_items_ = true;
  TRY(node.items, tuple_or_expression(false));
  for_items_ = false;
  if (skip_name("if")) {
    node.filtered = true;
    TRY(node.filter, expression());
  }
  node.recursive = skip_name("recursive");
  ++n_loops_;
  TRY(node.body, tag_body({"else", "endfor"}));
  --n_loops_;
  if (skip_name("else")) {
    TRY(node.otherwise, tag_body({"endfor"}));
  }
  skip_name("endfor");
  out->node = std::move(node);
  return {};
}

Status Parser::check_loop_target(const Target& target) const {
  if (target.name == "loop") return fail("\"loop\" cannot be the variable of a loop");
  for (const Target& part : target.parts) TRY_STATUS(check_loop_target(part));
  return {};
}

Status Parser::parse_set(Stmt* out) {
  TRY(Target to, target(true));
  if (skip_symbol("=")) {
    TRY(Expr value, tuple_or_expression(true));
    out->node = Set{std::move(to), std::move(value)};
    return {};
  }
  SetBlock node;
  node.target = std::move(to);
  node.value = make(ExprKind::captured);
  while (skip_symbol("|")) {
    TRY(node.value, filter(std::move(node.value)));
  }
  TRY(node.body, tag_body({"endset"}));
  next();
  out->node = std::move(node);
  return {};
}

Status Parser::parse_macro(Stmt* out) {
  Macro node;
  TRY(node.name, identifier("a macro name"));
  TRY_STATUS(parse_signature(&node));
  const int loops = std::exchange(n_loops_, 0);
  macros_.push_back(&node);
  TRY(node.body, tag_body({"endmacro"}));
  macros_.pop_back();
  n_loops_ = loops;
  next();
  out->node = std::move(node);
  return {};
}

Status Parser::parse_signature(Macro* macro) {
  TRY_STATUS(expect_symbol("("));
  while (!at_symbol(")")) {
    if (!macro->parameters.empty()) TRY_STATUS(expect_symbol(","));
    TRY(std::string name, identifier("a parameter name"));
    macro->parameters.push_back(std::move(name));
    if (skip_symbol("=")) {
      TRY(Expr value, expression());
      macro->defaults.push_back(std::move(value));
    } else if (!macro->defaults.empty()) {
      return fail("a parameter without a default follows one with a default");
    }
  }
  return expect_symbol(")");
}

Status Parser::parse_call(Stmt* out) {
  CallBlock node;
  node.caller.name = "caller";
  if (at_symbol("(")) TRY_STATUS(parse_signature(&node.caller));
  TRY(node.call, expression());
  if (node.call.kind != ExprKind::call) return fail("\"call\" needs a call, as in macro(...)");
  const int loops = std::exchange(n_loops_, 0);
  TRY(node.caller.body, tag_body({"endcall"}));
  n_loops_ = loops;
  next();
  out->node = std::move(node);
  return {};
}

Status Parser::parse_filter_block(Stmt* out) {
  FilterBlock node;
  TRY(node.value, filter(make(ExprKind::captured)));
  while (skip_symbol("|")) {
    TRY(node.value, filter(std::move(node.value)));
  }
  const int loops = std::exchange(n_loops_, 0);
  TRY(node.body, tag_body({"endfilter"}));
  n_loops_ = loops;
  next();
  out->node = std::move(node);
  return {};
}

Status Parser::parse_with(Stmt* out) {
  With node;
  while (now().kind != TokenKind::block_end) {
    if (!node.targets.empty()) TRY_STATUS(expect_symbol(","));
    TRY(Target to, target(false));
    TRY_STATUS(expect_symbol("="));
    TRY(Expr value, expression());
    node.targets.push_back(std::move(to));
    node.values.push_back(std::move(value));
  }
  TRY(node.body, tag_body({"endwith"}));
  next();
  out->node = std::move(node);
  return {};
}

Status Parser::parse_generation(Stmt* out) {
  Generation node;
  const int loops = std::exchange(n_loops_, 0);
  TRY(node.body, tag_body({"endgeneration"}));
  n_loops_ = loops;
  next();
  out->node = std::move(node);
  return {};
}

// name, name.member (where allowed), or a comma list of names and nested tuples.
Result<Target> Parser::target(bool with_member) {
  if (with_member && now().kind == TokenKind::name && peek().kind == TokenKind::symbol &&
      peek().text == ".") {
    Target to{.name = now().text};
    next();
    next();
    TRY(to.member, identifier("a member name"));
    return to;
  }
  TRY(Target first, target_part());
  if (!at_symbol(",")) return first;
  Target tuple;
  tuple.parts.push_back(std::move(first));
  while (skip_symbol(",")) {
    if (now().kind != TokenKind::name && !at_symbol("(")) break;
    if (at_name("in")) break;
    TRY(Target part, target_part());
    tuple.parts.push_back(std::move(part));
  }
  return tuple;
}

Result<Target> Parser::target_part() {
  const Nested nested(&depth_);
  TRY_STATUS(too_deep());
  if (skip_symbol("(")) {
    TRY(Target inner, target(false));
    TRY_STATUS(expect_symbol(")"));
    return inner;
  }
  for (const std::string_view literal : {"true", "True", "false", "False", "none", "None"}) {
    if (at_name(literal)) return fail(fmt::format("cannot assign to \"{}\"", literal));
  }
  TRY(std::string name, identifier("a variable name"));
  return Target{.name = std::move(name)};
}

}  // namespace ashlar::text::jinja
