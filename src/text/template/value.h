#pragma once

// The values a template computes with: Python's, as far as templates can see them. A Value is small
// and copied freely; what it points to belongs to the Heap of the rendering (heap.h) and never
// changes once made, with three exceptions: a namespace's members, how far a generator has been
// read, and the state of a loop.

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ashlar::text::jinja {

enum class Kind : uint8_t {
  undefined,
  none,
  boolean,
  integer,
  real,
  string,
  sequence,
  dict,
  space,  // namespace()
  callable,
  loop,
};

// Why there is no value; decides the message if someone uses it.
enum class Absence : uint8_t {
  name,       // a variable nobody set
  attribute,  // of an object that lacks it
  element,
  hint,      // the text says it
  unsafe,    // the sandbox forbids it
  argument,  // not passed, internal: never seen by a template
};

struct Sequence;
struct Dict;
struct Space;
struct Callable;
struct Loop;

class Value {
 public:
  Value() = default;  // undefined, without a name
  static Value undefined(Absence why, std::string_view text, const char* owner = "");
  static Value none();
  static Value boolean(bool value);
  static Value integer(int64_t value);
  static Value real(double value);
  // The characters must live as long as the rendering: heap, program or context. A safe string is
  // one a filter marked so (Python's Markup): concatenation then escapes what is not safe.
  static Value string(std::string_view text, bool safe = false);
  static Value of(Sequence* sequence);
  static Value of(Dict* dict);
  static Value of(Space* space);
  static Value of(Callable* callable);
  static Value of(Loop* loop);

  Kind kind() const { return kind_; }
  bool is(Kind kind) const { return kind_ == kind; }
  bool is_number() const { return is_integral() || kind_ == Kind::real; }
  bool is_integral() const { return kind_ == Kind::integer || kind_ == Kind::boolean; }
  bool is_absent(Absence why) const { return kind_ == Kind::undefined && absence_ == why; }
  bool is_missing() const { return is_absent(Absence::argument); }

  // REQUIRES the kind. as_int() also takes a boolean, as_double() any number.
  bool as_bool() const { return integer_ != 0; }
  int64_t as_int() const { return integer_; }
  double as_double() const { return kind_ == Kind::real ? real_ : static_cast<double>(integer_); }
  std::string_view as_string() const { return {chars_, size_}; }
  bool is_safe() const { return kind_ == Kind::string && safe_; }
  Sequence* as_sequence() const { return sequence_; }
  Dict* as_dict() const { return dict_; }
  Space* as_space() const { return space_; }
  Callable* as_callable() const { return callable_; }
  Loop* as_loop() const { return loop_; }

  // Of an undefined value: what to say when it is used.
  std::string absence_text() const;

  // Python's name of the type ("str", "list", "dict_items", ...).
  const char* type_name() const;

  // The same object: Python's `is`.
  bool same_as(const Value& other) const;

 private:
  Kind kind_ = Kind::undefined;
  bool safe_ = false;
  Absence absence_ = Absence::name;
  size_t size_ = 0;  // of the string; of an undefined value's text
  union {
    int64_t integer_ = 0;
    double real_;
    const char* chars_;
    Sequence* sequence_;
    Dict* dict_;
    Space* space_;
    Callable* callable_;
    Loop* loop_;
  };
  const char* owner_ = "";  // of an absent attribute: the type that lacks it
};

// Which of Python's sequence-like types.
enum class Shape : uint8_t { list, tuple, range, keys, values, items, generator };

struct Sequence {
  Shape shape = Shape::list;
  std::vector<Value> items;
  size_t n_read = 0;                      // generators can be read once
  int64_t start = 0, stop = 0, step = 1;  // of a range, for printing
};

struct Dict {
  std::vector<std::pair<Value, Value>> entries;  // in order of insertion, keys distinct
};

struct Space {
  std::vector<std::pair<std::string_view, Value>> members;
};

inline bool is_shape(const Value& value, Shape shape) {
  return value.is(Kind::sequence) && value.as_sequence()->shape == shape;
}

}  // namespace ashlar::text::jinja
