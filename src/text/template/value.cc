#include "text/template/value.h"

#include "base/text.h"

namespace ashlar::text::jinja {

Value Value::undefined(Absence why, std::string_view text, const char* owner) {
  Value value;
  value.absence_ = why;
  value.chars_ = text.data();
  value.size_ = text.size();
  value.owner_ = owner;
  return value;
}

Value Value::none() {
  Value value;
  value.kind_ = Kind::none;
  return value;
}

Value Value::boolean(bool flag) {
  Value value;
  value.kind_ = Kind::boolean;
  value.integer_ = flag ? 1 : 0;
  return value;
}

Value Value::integer(int64_t number) {
  Value value;
  value.kind_ = Kind::integer;
  value.integer_ = number;
  return value;
}

Value Value::real(double number) {
  Value value;
  value.kind_ = Kind::real;
  value.real_ = number;
  return value;
}

Value Value::string(std::string_view text, bool safe) {
  Value value;
  value.kind_ = Kind::string;
  value.safe_ = safe;
  value.chars_ = text.data();
  value.size_ = text.size();
  return value;
}

Value Value::of(Sequence* sequence) {
  Value value;
  value.kind_ = Kind::sequence;
  value.sequence_ = sequence;
  return value;
}

Value Value::of(Dict* dict) {
  Value value;
  value.kind_ = Kind::dict;
  value.dict_ = dict;
  return value;
}

Value Value::of(Space* space) {
  Value value;
  value.kind_ = Kind::space;
  value.space_ = space;
  return value;
}

Value Value::of(Callable* callable) {
  Value value;
  value.kind_ = Kind::callable;
  value.callable_ = callable;
  return value;
}

Value Value::of(Loop* loop) {
  Value value;
  value.kind_ = Kind::loop;
  value.loop_ = loop;
  return value;
}

std::string Value::absence_text() const {
  const std::string text = excerpt({size_ == 0 ? "" : chars_, size_}, 200);
  switch (absence_) {
    case Absence::name: return fmt::format("'{}' is undefined", text);
    case Absence::attribute: return fmt::format("'{}' object has no attribute '{}'", owner_, text);
    case Absence::element: return fmt::format("'{}' object has no element {}", owner_, text);
    case Absence::unsafe:
      return fmt::format("the sandbox forbids '{}' of a '{}' object", text, owner_);
    case Absence::hint:
    case Absence::argument: break;
  }
  return text;
}

const char* Value::type_name() const {
  switch (kind_) {
    case Kind::undefined: return "Undefined";
    case Kind::none: return "NoneType";
    case Kind::boolean: return "bool";
    case Kind::integer: return "int";
    case Kind::real: return "float";
    case Kind::string: return safe_ ? "Markup" : "str";
    case Kind::dict: return "dict";
    case Kind::space: return "Namespace";
    case Kind::callable: return "function";
    case Kind::loop: return "LoopContext";
    case Kind::sequence: break;
  }
  static constexpr const char* kShapes[] = {"list",        "tuple",      "range",    "dict_keys",
                                            "dict_values", "dict_items", "generator"};
  return kShapes[static_cast<size_t>(sequence_->shape)];
}

bool Value::same_as(const Value& other) const {
  if (kind_ != other.kind_) return false;
  switch (kind_) {
    case Kind::none: return true;
    case Kind::real: return real_ == other.real_;
    case Kind::undefined:
    case Kind::string: return chars_ == other.chars_ && size_ == other.size_;
    default: return integer_ == other.integer_;  // all other members are as wide
  }
}

}  // namespace ashlar::text::jinja
