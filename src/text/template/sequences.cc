#include <algorithm>

#include "text/template/characters.h"
#include "text/template/interpreter.h"
#include "text/template/methods.h"
#include "text/template/operators.h"

namespace ashlar::text::jinja {
namespace {

Value no_element(Heap& heap, const Value& value, int64_t index) {
  return Value::undefined(Absence::element, heap.keep(fmt::format("{}", index)), value.type_name());
}

// Counted from the end when negative; nothing outside.
std::optional<size_t> position(int64_t index, int64_t size) {
  if (index < 0) index += size;
  if (index < 0 || index >= size) return std::nullopt;
  return static_cast<size_t>(index);
}

Value character_at(Heap& heap, const Value& value, int64_t index) {
  const std::string_view text = value.as_string();
  const int64_t size = is_ascii(text) ? static_cast<int64_t>(text.size()) : count_characters(text);
  const auto at = position(index, size);
  if (!at) return no_element(heap, value, index);
  const size_t begin = byte_offset(text, static_cast<int64_t>(*at));
  const size_t n = byte_offset(text.substr(begin), 1);
  return Value::string(text.substr(begin, n), value.is_safe());
}

bool has_positions(const Sequence& sequence) {
  return sequence.shape == Shape::list || sequence.shape == Shape::tuple ||
         sequence.shape == Shape::range;
}

// The elements a slice takes, as positions in a sequence of `size`. Python's rules.
Result<std::vector<size_t>> sliced(Heap& heap, int64_t size, const Value& start, const Value& stop,
                                   const Value& step) {
  for (const Value* bound : {&start, &stop, &step}) {
    TRY_STATUS(require_defined(*bound));
    if (!bound->is(Kind::none) && !bound->is_integral()) {
      return invalid("a slice needs integers, not {}", bound->type_name());
    }
  }
  const int64_t by = step.is(Kind::none) ? 1 : step.as_int();
  if (by == 0) return invalid("the step of a slice cannot be 0");
  const int64_t low = by > 0 ? 0 : -1, high = by > 0 ? size : size - 1;
  const auto clamp = [&](const Value& bound, int64_t missing) {
    if (bound.is(Kind::none)) return missing;
    const int64_t at = bound.as_int();
    return std::clamp(at < 0 ? std::max(at, -size - 1) + size : std::min(at, size), low, high);
  };
  const int64_t first = clamp(start, by > 0 ? low : high);
  const int64_t last = clamp(stop, by > 0 ? high : low);
  std::vector<size_t> taken;
  for (int64_t at = first; by > 0 ? at < last : at > last;) {
    taken.push_back(static_cast<size_t>(at));
    if (__builtin_add_overflow(at, by, &at)) break;
  }
  TRY_STATUS(heap.spend(taken.size()));
  return taken;
}

Result<Value> slice_text(Heap& heap, const Value& value, const Value& start, const Value& stop,
                         const Value& step) {
  const auto parts = characters(value.as_string());
  TRY_STATUS(heap.spend(parts.size() / 8));
  TRY(const auto taken, sliced(heap, static_cast<int64_t>(parts.size()), start, stop, step));
  if (taken.empty()) return Value::string("", value.is_safe());
  const bool forward = step.is(Kind::none) || step.as_int() == 1;
  if (forward) {  // a view, no copy
    const char* begin = parts[taken.front()].data();
    const std::string_view last = parts[taken.back()];
    const auto size = static_cast<size_t>(last.data() + last.size() - begin);
    return Value::string({begin, size}, value.is_safe());
  }
  std::string out;
  for (const size_t at : taken) out += parts[at];
  return heap.text(out, value.is_safe());
}

}  // namespace

Result<int64_t> length(Heap&, const Value& value) {
  switch (value.kind()) {
    case Kind::undefined: return 0;
    case Kind::string: return count_characters(value.as_string());
    case Kind::dict: return static_cast<int64_t>(value.as_dict()->entries.size());
    case Kind::sequence:
      if (!is_shape(value, Shape::generator)) {
        return static_cast<int64_t>(value.as_sequence()->items.size());
      }
      break;
    default: break;
  }
  return invalid("a value of type {} has no length", value.type_name());
}

Result<Sequence*> iterate(Heap& heap, const Value& value) {
  std::vector<Value> items;
  switch (value.kind()) {
    case Kind::undefined: break;
    case Kind::sequence: {
      Sequence* source = value.as_sequence();
      if (source->shape != Shape::generator) return source;
      items.assign(source->items.begin() + static_cast<std::ptrdiff_t>(source->n_read),
                   source->items.end());
      source->n_read = source->items.size();
      break;
    }
    case Kind::string:
      TRY_STATUS(heap.afford(value.as_string().size() * sizeof(Value)));
      for (const std::string_view part : characters(value.as_string())) {
        items.push_back(Value::string(part, value.is_safe()));
      }
      break;
    case Kind::dict:
      for (const auto& [key, entry] : value.as_dict()->entries) items.push_back(key);
      break;
    default: return invalid("a value of type {} cannot be iterated over", value.type_name());
  }
  TRY_STATUS(heap.spend(items.size()));
  return heap.list(std::move(items)).as_sequence();
}

Result<Value> item(Heap& heap, const Value& value, const Value& key) {
  TRY_STATUS(require_defined(value));
  if (value.is(Kind::dict)) {
    const bool hashable = !key.is(Kind::dict) && !is_shape(key, Shape::list);
    if (hashable) {
      TRY(const Value* found, find_key(heap, *value.as_dict(), key));
      if (found != nullptr) return *found;
    }
  } else if (key.is_integral() && value.is(Kind::string)) {
    return character_at(heap, value, key.as_int());
  } else if (key.is_integral() && value.is(Kind::sequence) && has_positions(*value.as_sequence())) {
    const auto& items = value.as_sequence()->items;
    const auto at = position(key.as_int(), static_cast<int64_t>(items.size()));
    return at ? items[*at] : no_element(heap, value, key.as_int());
  }
  if (key.is(Kind::string)) return method(heap, value, key.as_string());
  return Value::undefined(Absence::element, key.type_name(), value.type_name());
}

Result<Value> slice(Heap& heap, const Value& value, const Value& start, const Value& stop,
                    const Value& step) {
  TRY_STATUS(require_defined(value));
  if (value.is(Kind::string)) return slice_text(heap, value, start, stop, step);
  if (!value.is(Kind::sequence) || !has_positions(*value.as_sequence())) {
    return invalid("a value of type {} cannot be sliced", value.type_name());
  }
  const auto& items = value.as_sequence()->items;
  TRY(const auto taken, sliced(heap, static_cast<int64_t>(items.size()), start, stop, step));
  std::vector<Value> out;
  out.reserve(taken.size());
  for (const size_t at : taken) out.push_back(items[at]);
  return heap.sequence(value.as_sequence()->shape == Shape::tuple ? Shape::tuple : Shape::list,
                       std::move(out));
}

}  // namespace ashlar::text::jinja
