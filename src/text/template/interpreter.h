#pragma once

// Interpreter: one rendering of a parsed template. Split over three files: statements.cc runs
// blocks, evaluate.cc computes expressions, calls.cc does macros and loops.
//
// One rendering, one thread; program and context must outlive it.

#include <ctime>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "text/template/ast.h"
#include "text/template/heap.h"
#include "text/template/scope.h"
#include "text/template/value.h"

namespace ashlar::text::jinja {

class Interpreter {
 public:
  Interpreter(Heap& heap, const std::tm& now) : heap_(heap), now_(now) {}

  // The text of `program` with the members of `context` as variables. The error names the line.
  Result<std::string> run(const Block& program, const Json::Object& context);
  // Of the text that run() gave: see Rendered.
  const std::vector<size_t>& boundaries() const { return boundaries_; }

  // For natives.
  Heap& heap() { return heap_; }
  const std::tm& now() const { return now_; }
  Result<Value> call(const Value& callee, const Args& args);
  Result<Value> filter(std::string_view name, const Value& value, const Args& args);
  Result<bool> test(std::string_view name, const Value& value, const Args& args);
  Result<Value> attribute(const Value& value, std::string_view name);

 private:
  enum class Flow : uint8_t { next, leave, again };  // `leave` breaks a loop, `again` continues it

  // Statements.
  Result<Flow> block(const Block& block, Scope* scope);
  Result<Flow> statement(const Stmt& stmt, Scope* scope);
  Result<Flow> execute(const Text& node, Scope* scope);
  Result<Flow> execute(const Output& node, Scope* scope);
  Result<Flow> execute(const If& node, Scope* scope);
  Result<Flow> execute(const For& node, Scope* scope);
  Result<Flow> execute(const Set& node, Scope* scope);
  Result<Flow> execute(const SetBlock& node, Scope* scope);
  Result<Flow> execute(const FilterBlock& node, Scope* scope);
  Result<Flow> execute(const CallBlock& node, Scope* scope);
  Result<Flow> execute(const Macro& node, Scope* scope);
  Result<Flow> execute(const With& node, Scope* scope);
  Result<Flow> execute(const Generation& node, Scope* scope);
  Result<Flow> execute(const Break& node, Scope* scope);
  Result<Flow> execute(const Continue& node, Scope* scope);
  Status write(std::string_view text);
  Status assign(const Target& target, const Value& value, Scope* scope);
  // What a block writes, as a string value.
  Result<Value> capture(const Block& block, Scope* scope);

  // Expressions.
  Result<Value> evaluate(const Expr& expr, Scope* scope);
  Result<Value> compute(const Expr& expr, Scope* scope);
  Result<Value> literal(const Expr& expr) const;
  Result<Value> variable(std::string_view name, const Scope* scope);
  Result<std::vector<Value>> values(const std::vector<Expr>& parts, size_t from, Scope* scope);
  Result<Value> dict(const Expr& expr, Scope* scope);
  Result<Value> arithmetic_chain(const Expr& expr, Scope* scope);
  Result<Value> comparison_chain(const Expr& expr, Scope* scope);
  Result<Value> concatenation(const Expr& expr, Scope* scope);
  Result<Value> first_decisive(const Expr& expr, bool decisive, Scope* scope);
  Result<Value> conditional(const Expr& expr, Scope* scope);
  Result<Value> call_expression(const Expr& expr, Scope* scope, const Value* caller);
  Result<Args> arguments(const Expr& expr, Scope* scope);
  Result<Value> from_json(const Json& json, int depth);

  // Macros and loops.
  Result<Value> call_macro(const Callable& callable, const Args& args);
  Status bind_parameters(const Macro& macro, const Args& args, Scope* scope);
  Status bind_extras(const Macro& macro, const Args& args, Scope* scope);
  void note_boundary();
  Status run_loop(const For& node, const Value& items, Scope* outer, int depth0);
  Result<Value> recurse(const Loop& loop, const Args& args);
  Result<std::optional<Value>> advance(Loop& loop);
  Result<std::optional<Value>> peek(Loop& loop);
  Result<Value> loop_attribute(Loop& loop, std::string_view name);
  Result<int64_t> loop_length(Loop& loop);

  struct Nested {
    explicit Nested(int* depth) : depth_(depth) { ++*depth_; }
    ~Nested() { --*depth_; }
    Nested(const Nested&) = delete;
    Nested& operator=(const Nested&) = delete;
    int* depth_;
  };
  Status enter();

  Heap& heap_;
  const std::tm now_;
  const Json::Object* context_ = nullptr;
  std::vector<std::pair<std::string_view, Value>> converted_;  // of the context, on first use
  std::string* out_ = nullptr;
  const std::string* text_ = nullptr;  // the whole rendering's; out_ is another one in a capture
  std::vector<size_t> boundaries_;
  int loops_ = 0;   // open ones
  Value captured_;  // what a filter or set block has gathered
  int depth_ = 0;
  int error_line_ = 0;  // of the innermost construct that failed
};

// The tables of natives.
std::span<const NativeRow> text_filters();
std::span<const NativeRow> sequence_filters();
std::span<const NativeRow> number_filters();
std::span<const NativeRow> tests();
std::span<const NativeRow> globals();

const NativeRow* find_filter(std::string_view name);
const NativeRow* find_test(std::string_view name);

// The entries of a dict as (key, value) tuples.
std::vector<Value> pairs_of(Heap& heap, const Dict& dict);

}  // namespace ashlar::text::jinja
