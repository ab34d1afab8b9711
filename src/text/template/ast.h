#pragma once

// A parsed template. Plain data: built by the parser, read by the interpreter, never changed.

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "text/template/literal.h"

namespace ashlar::text::jinja {

enum class ExprKind : uint8_t {
  constant,     // literal
  name,         // name
  tuple,        // parts
  list,         // parts
  dict,         // parts: key, value, key, value ...
  attribute,    // parts[0].name
  item,         // parts[0][parts[1]]
  slice,        // parts[0][parts[1]:parts[2]:parts[3]]; an absent bound is `none`
  call,         // parts[0](parts[1..], keywords)
  filter,       // parts[0] | name(parts[1..], keywords)
  test,         // parts[0] is name(parts[1..], keywords)
  negative,     // -parts[0]
  positive,     // +parts[0]
  negation,     // not parts[0]
  arithmetic,   // parts[0] ops[0] parts[1] ops[1] ..., from the left
  comparison,   // the same, chained as in Python: a < b < c
  concat,       // parts[0] ~ parts[1] ~ ...
  all_of,       // and
  any_of,       // or
  conditional,  // parts[0] if parts[1] else parts[2]; parts[2] may be missing
  spread,       // *parts[0], among the arguments of a call
  captured,     // the text a filter block or set block has gathered
};

enum class Op : uint8_t {
  add,
  sub,
  mul,
  div,
  floor_div,
  mod,
  pow,
  eq,
  ne,
  lt,
  le,
  gt,
  ge,
  in,
  not_in
};

struct Keyword;

struct Expr {
  ExprKind kind = ExprKind::constant;
  int line = 0;
  Literal literal;
  std::string name;
  std::vector<Expr> parts;
  std::vector<Op> ops;
  std::vector<Keyword> keywords;
};

struct Keyword {
  std::string name;  // empty: **value
  Expr value;
};

// What can be assigned to: a name, a member of a namespace, or a tuple of names.
struct Target {
  std::string name;  // empty: a tuple
  std::string member;
  std::vector<Target> parts;
};

struct Stmt;
using Block = std::vector<Stmt>;

struct Macro {
  std::string name;
  std::vector<std::string> parameters;
  std::vector<Expr> defaults;  // of the last parameters
  Block body;
  bool uses_caller = false, uses_kwargs = false, uses_varargs = false;
};

struct Text {
  std::string text;
};
struct Output {
  Expr value;
};
struct If {
  struct Branch {
    Expr condition;
    std::vector<Stmt> body;
  };
  std::vector<Branch> branches;
  Block otherwise;
};
struct For {
  Target target;
  Expr items;
  bool filtered = false;
  Expr filter;
  bool recursive = false;
  Block body;
  Block otherwise;
};
struct Set {
  Target target;
  Expr value;
};
struct SetBlock {
  Target target;
  Expr value;  // `captured`, through the filters of the tag
  Block body;
};
struct FilterBlock {
  Expr value;  // `captured`, through the filters
  Block body;
};
struct CallBlock {
  Macro caller;
  Expr call;
};
struct With {
  std::vector<Target> targets;
  std::vector<Expr> values;
  Block body;
};
struct Generation {  // the assistant's own words, marked by transformers; renders its body
  Block body;
};
struct Break {};
struct Continue {};

struct Stmt {
  int line = 0;
  std::variant<Text, Output, If, For, Set, SetBlock, FilterBlock, CallBlock, Macro, With,
               Generation, Break, Continue>
      node;
};

}  // namespace ashlar::text::jinja
