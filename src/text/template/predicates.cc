#include <array>

#include "text/template/arguments.h"
#include "text/template/characters.h"
#include "text/template/interpreter.h"
#include "text/template/operators.h"
#include "text/template/print.h"

namespace ashlar::text::jinja {
namespace {

// The tests of "is". Those of the value alone:
template <bool (*fn)(const Value&)>
Result<Value> of_value(Interpreter&, const Value& value, const Args& args) {
  TRY_STATUS(no_arguments(args, "the test"));
  return Value::boolean(fn(value));
}

bool is_defined(const Value& v) { return !v.is(Kind::undefined); }
bool is_undefined(const Value& v) { return v.is(Kind::undefined); }
bool is_none(const Value& v) { return v.is(Kind::none); }
bool is_boolean(const Value& v) { return v.is(Kind::boolean); }
bool is_literal_true(const Value& v) { return v.is(Kind::boolean) && v.as_bool(); }
bool is_literal_false(const Value& v) { return v.is(Kind::boolean) && !v.as_bool(); }
bool is_integer(const Value& v) { return v.is(Kind::integer); }
bool is_real(const Value& v) { return v.is(Kind::real); }
bool is_number(const Value& v) { return v.is_number(); }
bool is_string(const Value& v) { return v.is(Kind::string); }
bool is_mapping(const Value& v) { return v.is(Kind::dict); }
bool is_escaped(const Value& v) { return v.is_safe(); }
bool is_callable(const Value& v) {
  return v.is(Kind::callable) || v.is(Kind::loop) || v.is(Kind::undefined);
}
bool is_iterable(const Value& v) {
  return v.is(Kind::undefined) || v.is(Kind::string) || v.is(Kind::sequence) || v.is(Kind::dict) ||
         v.is(Kind::loop);
}
bool is_sequence(const Value& v) {
  if (v.is(Kind::sequence)) {
    const Shape shape = v.as_sequence()->shape;
    return shape == Shape::list || shape == Shape::tuple || shape == Shape::range;
  }
  return v.is(Kind::undefined) || v.is(Kind::string) || v.is(Kind::dict);
}
bool is_filter(const Value& v) { return v.is(Kind::string) && find_filter(v.as_string()); }
bool is_test(const Value& v) { return v.is(Kind::string) && find_test(v.as_string()); }

template <bool (*wanted)(char32_t), bool (*other)(char32_t)>
Result<Value> all_cased(Interpreter& run, const Value& value, const Args& args) {
  TRY_STATUS(no_arguments(args, "the test"));
  TRY(const Value text, to_str(run.heap(), value));
  TRY(const Value method, run.attribute(text, wanted == &is_lower ? "islower" : "isupper"));
  return run.call(method, {});
}

Result<Value> remainder_is(Interpreter& run, const Value& value, int64_t by, int64_t rest) {
  TRY(const Value remainder, arithmetic(run.heap(), Op::mod, value, Value::integer(by)));
  TRY(const bool holds, equals(run.heap(), remainder, Value::integer(rest)));
  return Value::boolean(holds);
}

Result<Value> is_odd(Interpreter& run, const Value& value, const Args& args) {
  TRY_STATUS(no_arguments(args, "odd"));
  return remainder_is(run, value, 2, 1);
}
Result<Value> is_even(Interpreter& run, const Value& value, const Args& args) {
  TRY_STATUS(no_arguments(args, "even"));
  return remainder_is(run, value, 2, 0);
}
Result<Value> is_divisible(Interpreter& run, const Value& value, const Args& args) {
  TRY(const auto p, bind<1>(args, "divisibleby", {"num"}, 1));
  TRY(const Value remainder, arithmetic(run.heap(), Op::mod, value, p[0]));
  TRY(const bool holds, equals(run.heap(), remainder, Value::integer(0)));
  return Value::boolean(holds);
}

template <Op op>
Result<Value> compares(Interpreter& run, const Value& value, const Args& args) {
  TRY(const auto p, bind<1>(args, "the test", {"other"}, 1));
  TRY(const bool holds, compare(run.heap(), op, value, p[0]));
  return Value::boolean(holds);
}

Result<Value> is_same(Interpreter&, const Value& value, const Args& args) {
  TRY(const auto p, bind<1>(args, "sameas", {"other"}, 1));
  return Value::boolean(value.same_as(p[0]));
}

constexpr std::array<NativeRow, 39> kTests = {{
    {"odd", is_odd},
    {"even", is_even},
    {"divisibleby", is_divisible},
    {"defined", of_value<is_defined>},
    {"undefined", of_value<is_undefined>},
    {"filter", of_value<is_filter>},
    {"test", of_value<is_test>},
    {"none", of_value<is_none>},
    {"boolean", of_value<is_boolean>},
    {"false", of_value<is_literal_false>},
    {"true", of_value<is_literal_true>},
    {"integer", of_value<is_integer>},
    {"float", of_value<is_real>},
    {"lower", all_cased<is_lower, is_upper>},
    {"upper", all_cased<is_upper, is_lower>},
    {"string", of_value<is_string>},
    {"mapping", of_value<is_mapping>},
    {"number", of_value<is_number>},
    {"sequence", of_value<is_sequence>},
    {"iterable", of_value<is_iterable>},
    {"callable", of_value<is_callable>},
    {"sameas", is_same},
    {"escaped", of_value<is_escaped>},
    {"in", compares<Op::in>},
    {"==", compares<Op::eq>},
    {"eq", compares<Op::eq>},
    {"equalto", compares<Op::eq>},
    {"!=", compares<Op::ne>},
    {"ne", compares<Op::ne>},
    {">", compares<Op::gt>},
    {"gt", compares<Op::gt>},
    {"greaterthan", compares<Op::gt>},
    {">=", compares<Op::ge>},
    {"ge", compares<Op::ge>},
    {"<", compares<Op::lt>},
    {"lt", compares<Op::lt>},
    {"lessthan", compares<Op::lt>},
    {"<=", compares<Op::le>},
    {"le", compares<Op::le>},
}};

}  // namespace

std::span<const NativeRow> tests() { return kTests; }

}  // namespace ashlar::text::jinja
