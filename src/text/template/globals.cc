#include <array>
#include <ctime>

#include "text/template/arguments.h"
#include "text/template/interpreter.h"
#include "text/template/operators.h"
#include "text/template/print.h"

namespace ashlar::text::jinja {
namespace {

constexpr int64_t kMaxRange = 100'000;  // as in Jinja's sandbox

Result<Value> range(Interpreter& run, const Value&, const Args& args) {
  if (args.positional.empty() || !args.keyword.empty()) {
    return invalid("range takes one to three integers");
  }
  TRY(const auto p, bind<3>(args, "range", {"start", "stop", "step"}));
  for (const Value& value : args.positional) {
    TRY_STATUS(require_defined(value));
    if (!value.is_integral()) return invalid("range needs integers, not {}", value.type_name());
  }
  const bool one = p[1].is_missing();
  const int64_t start = one ? 0 : p[0].as_int();
  const int64_t stop = one ? p[0].as_int() : p[1].as_int();
  const int64_t step = p[2].is_missing() ? 1 : p[2].as_int();
  if (step == 0) return invalid("range: a step of 0");
  std::vector<Value> items;
  for (int64_t at = start; step > 0 ? at < stop : at > stop;) {
    if (static_cast<int64_t>(items.size()) == kMaxRange) {
      return error(Code::exhausted, "range: more than {} items, the limit", kMaxRange);
    }
    items.push_back(Value::integer(at));
    if (__builtin_add_overflow(at, step, &at)) break;
  }
  TRY_STATUS(run.heap().spend(items.size()));
  const Value value = run.heap().sequence(Shape::range, std::move(items));
  value.as_sequence()->start = start;
  value.as_sequence()->stop = stop;
  value.as_sequence()->step = step;
  return value;
}

// The entries of dict(...) and namespace(...): a mapping or pairs, then names.
Result<Value> entries_of(Heap& heap, const Args& args, std::string_view function) {
  std::vector<std::pair<Value, Value>> entries;
  if (args.positional.size() > 1) return invalid("{} takes at most one mapping", function);
  if (!args.positional.empty()) {
    const Value& source = args.positional[0];
    TRY_STATUS(require_defined(source));
    if (source.is(Kind::dict)) {
      entries = source.as_dict()->entries;
    } else {
      TRY(const Sequence* rows, iterate(heap, source));
      for (const Value& row : rows->items) {
        TRY(const Sequence* pair, iterate(heap, row));
        if (pair->items.size() != 2) return invalid("{} needs pairs", function);
        entries.emplace_back(pair->items[0], pair->items[1]);
      }
    }
  }
  for (const auto& [name, value] : args.keyword) entries.emplace_back(Value::string(name), value);
  return make_dict(heap, std::move(entries));
}

Result<Value> dict(Interpreter& run, const Value&, const Args& args) {
  return entries_of(run.heap(), args, "dict");
}

Result<Value> make_namespace(Interpreter& run, const Value&, const Args& args) {
  TRY(const Value entries, entries_of(run.heap(), args, "namespace"));
  Space* const space = run.heap().space();
  for (const auto& [key, value] : entries.as_dict()->entries) {
    if (!key.is(Kind::string)) return invalid("namespace needs names that are strings");
    space->members.emplace_back(key.as_string(), value);
  }
  return Value::of(space);
}

Result<Value> raise_exception(Interpreter& run, const Value&, const Args& args) {
  TRY(const auto p, bind<1>(args, "raise_exception", {"message"}, 1));
  TRY(const Value text, to_str(run.heap(), p[0]));
  return Error{Code::invalid, std::string(text.as_string())};
}

// joiner(","): "" when first called, "," from then on. Its memory is a namespace.
Result<Value> joiner_call(Interpreter&, const Value& self, const Args& args) {
  TRY_STATUS(no_arguments(args, "joiner"));
  return std::exchange(self.as_space()->members[0].second, self.as_space()->members[1].second);
}

Result<Value> joiner(Interpreter& run, const Value&, const Args& args) {
  TRY(const auto p, bind<1>(args, "joiner", {"sep"}));
  Space* const memory = run.heap().space();
  memory->members = {{"next", Value::string("")},
                     {"sep", p[0].is_missing() ? Value::string(", ") : p[0]}};
  return Value::of(
      run.heap().callable({.name = "joiner", .native = joiner_call, .self = Value::of(memory)}));
}

// cycler(a, b): an object with next(), reset() and current. Its state is in a namespace of its own,
// which the template cannot reach: the items, the position, the object.
void set_position(Space& state, int64_t position) {
  const auto& items = state.members[0].second.as_sequence()->items;
  state.members[1].second = Value::integer(position);
  Space& object = *state.members[2].second.as_space();
  object.members[0].second = items[static_cast<size_t>(position) % items.size()];
}

Result<Value> cycler_next(Interpreter&, const Value& self, const Args& args) {
  TRY_STATUS(no_arguments(args, "next"));
  Space& state = *self.as_space();
  const Value current = state.members[2].second.as_space()->members[0].second;
  set_position(state, state.members[1].second.as_int() + 1);
  return current;
}

Result<Value> cycler_reset(Interpreter&, const Value& self, const Args& args) {
  TRY_STATUS(no_arguments(args, "reset"));
  set_position(*self.as_space(), 0);
  return Value::none();
}

Result<Value> cycler(Interpreter& run, const Value&, const Args& args) {
  if (args.positional.empty() || !args.keyword.empty()) {
    return invalid("cycler needs the items to cycle through");
  }
  Heap& heap = run.heap();
  Space* const state = heap.space();
  Space* const object = heap.space();
  const auto method = [&](std::string_view name, Native native) {
    return Value::of(heap.callable({.name = name, .native = native, .self = Value::of(state)}));
  };
  state->members = {{"items", heap.tuple(args.positional)},
                    {"position", Value::integer(0)},
                    {"object", Value::of(object)}};
  object->members = {{"current", args.positional[0]},
                     {"next", method("next", cycler_next)},
                     {"reset", method("reset", cycler_reset)}};
  return Value::of(object);
}

// Python's date formats for a local time without a zone.
Result<Value> strftime_now(Interpreter& run, const Value&, const Args& args) {
  TRY(const auto p, bind<1>(args, "strftime_now", {"format"}, 1));
  TRY(const std::string_view format, text_argument(p[0], "strftime_now"));
  TRY_STATUS(run.heap().spend(format.size()));
  std::string out;
  for (size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%') {
      out += format[i];
      continue;
    }
    const bool unpadded = format.substr(i + 1).starts_with('-');
    i += unpadded ? 2 : 1;
    const char field = i < format.size() ? format[i] : '\0';
    static constexpr std::string_view kKnown = "aAbBcCdDeFGghHIjmMnprRStTuUVwWxXyY%";
    if (field == 'f' && !unpadded) {
      out += "000000";
    } else if (field == '\0' ||
               (kKnown.find(field) == std::string_view::npos && field != 'z' && field != 'Z')) {
      return unsupported("strftime_now: the field in \"{}\" is not supported", excerpt(format));
    } else if (field != 'z' && field != 'Z') {
      const char pattern[] = {'%', unpadded ? '-' : field, unpadded ? field : '\0', '\0'};
      char text[128];
      out.append(text, std::strftime(text, sizeof text, pattern, &run.now()));
    }
  }
  return run.heap().text(out);
}

constexpr std::array<NativeRow, 7> kGlobals = {{{"cycler", cycler},
                                                {"dict", dict},
                                                {"joiner", joiner},
                                                {"namespace", make_namespace},
                                                {"raise_exception", raise_exception},
                                                {"range", range},
                                                {"strftime_now", strftime_now}}};

}  // namespace

std::span<const NativeRow> globals() { return kGlobals; }

}  // namespace ashlar::text::jinja
