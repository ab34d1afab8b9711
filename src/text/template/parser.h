#pragma once

// The grammar of templates, by recursive descent: parser.cc has the statements, expressions.cc the
// expressions. Nesting is limited, so that no template can exhaust the stack.

#include <algorithm>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "text/template/ast.h"
#include "text/template/token.h"

namespace ashlar::text::jinja {

// Errors tell the line; unsupported names a construct of Jinja that is not built.
Result<Block> parse_template(std::string_view source);

class Parser {
 public:
  explicit Parser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}
  Result<Block> run();

 private:
  static constexpr int kMaxDepth = 100;
  static constexpr int kMaxChain = 32;
  // Counts nesting for as long as it lives.
  struct Nested {
    explicit Nested(int* depth) : depth_(depth) { ++*depth_; }
    ~Nested() { --*depth_; }
    Nested(const Nested&) = delete;
    Nested& operator=(const Nested&) = delete;
    int* depth_;
  };

  // Tokens.
  const Token& now() const { return tokens_[at_]; }
  const Token& peek() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  void next() { at_ = std::min(at_ + 1, tokens_.size() - 1); }
  bool at_symbol(std::string_view text) const {
    return now().kind == TokenKind::symbol && now().text == text;
  }
  bool at_name(std::string_view text) const {
    return now().kind == TokenKind::name && now().text == text;
  }
  bool skip_symbol(std::string_view text);
  bool skip_name(std::string_view text);
  Status expect_symbol(std::string_view text);
  Status expect_name(std::string_view text);
  Status expect(TokenKind kind, std::string_view what);
  Result<std::string> identifier(std::string_view what);
  Error fail(std::string_view what) const;
  Error unexpected(std::string_view wanted) const;
  Status too_deep() const;

  // Statements. A body runs to one of its end tags, whose name is left as the current token.
  using Ends = std::initializer_list<std::string_view>;
  Result<Block> body(Ends ends);
  Result<Block> tag_body(Ends ends);
  Result<Stmt> statement();
  Status parse_if(Stmt* out);
  Status parse_for(Stmt* out);
  Status parse_set(Stmt* out);
  Status parse_macro(Stmt* out);
  Status parse_call(Stmt* out);
  Status parse_filter_block(Stmt* out);
  Status parse_with(Stmt* out);
  Status parse_generation(Stmt* out);
  Status parse_signature(Macro* macro);
  Result<Target> target(bool with_member);
  Result<Target> target_part();
  Status check_loop_target(const Target& target) const;

  // Expressions, loosest binding first.
  Result<Expr> expression();
  Result<Expr> tuple_or_expression(bool conditional);
  Result<Expr> any_of();
  Result<Expr> all_of();
  Result<Expr> negation();
  Result<Expr> comparison();
  Result<Expr> sum();
  Result<Expr> concat();
  Result<Expr> product();
  Result<Expr> power();
  Result<Expr> unary(bool with_filters);
  Result<Expr> primary();
  Result<Expr> postfix(Expr operand);
  Result<Expr> filters_and_tests(Expr operand);
  Result<Expr> filter(Expr operand);
  Result<Expr> test(Expr operand);
  Result<Expr> subscript(Expr operand);
  Result<Expr> call(Expr callee);
  Status arguments(Expr* call);
  Status argument(Expr* call);
  Result<Expr> parenthesized();
  Result<Expr> list();
  Result<Expr> dict();
  Result<Expr> chain(ExprKind kind, Result<Expr> (Parser::*operand)(),
                     std::initializer_list<std::pair<std::string_view, Op>> ops);
  Result<Expr> word_chain(ExprKind kind, Result<Expr> (Parser::*operand)(), std::string_view word);
  Result<std::string> dotted_name(std::string_view what);
  bool tuple_ends() const;
  Expr make(ExprKind kind) const;
  void note_use(std::string_view name);

  std::vector<Token> tokens_;
  size_t at_ = 0;
  int depth_ = 0;
  int n_loops_ = 0;             // around the current statement, within its macro
  std::vector<Macro*> macros_;  // being parsed, outermost first
  bool for_items_ = false;      // the items of a `for` end before "recursive"
};

}  // namespace ashlar::text::jinja
