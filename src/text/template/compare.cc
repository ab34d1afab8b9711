#include <algorithm>
#include <compare>

#include "text/template/operators.h"

namespace ashlar::text::jinja {
namespace {

constexpr int kMaxDepth = 100;

// Exactly, as Python does: an integer beyond 2^53 is not the double next to it.
std::partial_ordering compare_numbers(const Value& a, const Value& b) {
  if (a.is_integral() && b.is_integral()) return a.as_int() <=> b.as_int();
  if (a.is(Kind::real) && b.is(Kind::real)) return a.as_double() <=> b.as_double();
  if (a.is(Kind::real)) return 0 <=> compare_numbers(b, a);
  const double real = b.as_double();
  if (real >= 0x1p63) return std::partial_ordering::less;
  if (real < -0x1p63) return std::partial_ordering::greater;
  if (real != real) return std::partial_ordering::unordered;
  const auto whole = static_cast<int64_t>(real);
  if (a.as_int() != whole) return a.as_int() <=> whole;
  return 0.0 <=> real - static_cast<double>(whole);
}

bool same_family(Shape a, Shape b) { return a == b && a != Shape::generator; }

Result<bool> equal_at(Heap& heap, const Value& a, const Value& b, int depth);

Result<bool> equal_dicts(Heap& heap, const Dict& a, const Dict& b, int depth) {
  if (a.entries.size() != b.entries.size()) return false;
  for (const auto& [key, value] : a.entries) {
    TRY(const Value* other, find_key(heap, b, key));
    if (other == nullptr) return false;
    TRY(const bool same, equal_at(heap, value, *other, depth + 1));
    if (!same) return false;
  }
  return true;
}

Result<bool> equal_at(Heap& heap, const Value& a, const Value& b, int depth) {
  TRY_STATUS(heap.spend(1));
  if (depth > kMaxDepth) return invalid("values nest more than {} deep", kMaxDepth);
  if (a.is_number() && b.is_number()) return compare_numbers(a, b) == 0;
  if (a.kind() != b.kind()) return false;
  switch (a.kind()) {
    case Kind::undefined:
    case Kind::none: return true;
    case Kind::string: return a.as_string() == b.as_string();
    case Kind::dict: return equal_dicts(heap, *a.as_dict(), *b.as_dict(), depth);
    case Kind::sequence: break;
    default: return a.same_as(b);
  }
  const Sequence &left = *a.as_sequence(), &right = *b.as_sequence();
  if (!same_family(left.shape, right.shape)) return a.same_as(b);
  if (left.items.size() != right.items.size()) return false;
  for (size_t i = 0; i < left.items.size(); ++i) {
    TRY(const bool same, equal_at(heap, left.items[i], right.items[i], depth + 1));
    if (!same) return false;
  }
  return true;
}

// <, <=, > or >= of two values.
Result<bool> ordered(Heap& heap, Op op, const Value& a, const Value& b, int depth) {
  TRY_STATUS(heap.spend(1));
  TRY_STATUS(require_defined(a));
  TRY_STATUS(require_defined(b));
  if (depth > kMaxDepth) return invalid("values nest more than {} deep", kMaxDepth);
  const auto holds = [op](std::partial_ordering order) {
    switch (op) {
      case Op::lt: return order < 0;
      case Op::le: return order <= 0;
      case Op::gt: return order > 0;
      default: return order >= 0;
    }
  };
  if (a.is_number() && b.is_number()) return holds(compare_numbers(a, b));
  if (a.is(Kind::string) && b.is(Kind::string)) return holds(a.as_string() <=> b.as_string());
  const bool lists = (is_shape(a, Shape::list) && is_shape(b, Shape::list)) ||
                     (is_shape(a, Shape::tuple) && is_shape(b, Shape::tuple));
  if (!lists) {
    return invalid("{} and {} have no order", a.type_name(), b.type_name());
  }
  const auto &left = a.as_sequence()->items, &right = b.as_sequence()->items;
  for (size_t i = 0; i < std::min(left.size(), right.size()); ++i) {
    TRY(const bool same, equal_at(heap, left[i], right[i], depth + 1));
    if (!same) return ordered(heap, op, left[i], right[i], depth + 1);
  }
  return holds(left.size() <=> right.size());
}

// Python's dicts take no list or dict as a key.
Status require_hashable(const Value& key) {
  if (key.is(Kind::dict) || is_shape(key, Shape::list)) {
    return invalid("a {} cannot be a key", key.type_name());
  }
  if (is_shape(key, Shape::tuple)) {
    for (const Value& part : key.as_sequence()->items) {
      if (is_shape(part, Shape::tuple)) return unsupported("a key of nested tuples");
      TRY_STATUS(require_hashable(part));
    }
  }
  return {};
}

}  // namespace

Result<bool> equals(Heap& heap, const Value& a, const Value& b) { return equal_at(heap, a, b, 0); }

Result<bool> less(Heap& heap, const Value& a, const Value& b) {
  return ordered(heap, Op::lt, a, b, 0);
}

Result<bool> compare(Heap& heap, Op op, const Value& a, const Value& b) {
  switch (op) {
    case Op::eq: return equals(heap, a, b);
    case Op::ne: {
      TRY(const bool same, equals(heap, a, b));
      return !same;
    }
    case Op::in: return contains(heap, b, a);
    case Op::not_in: {
      TRY(const bool inside, contains(heap, b, a));
      return !inside;
    }
    default: return ordered(heap, op, a, b, 0);
  }
}

Result<bool> contains(Heap& heap, const Value& container, const Value& item) {
  switch (container.kind()) {
    case Kind::undefined: return false;
    case Kind::dict: {
      TRY(const Value* found, find_key(heap, *container.as_dict(), item));
      return found != nullptr;
    }
    case Kind::string: {
      TRY_STATUS(require_defined(item));
      if (!item.is(Kind::string)) {
        return invalid("\"in\" a string needs a string, not {}", item.type_name());
      }
      TRY_STATUS(heap.spend(container.as_string().size() / 16));
      return container.as_string().find(item.as_string()) != std::string_view::npos;
    }
    default: break;
  }
  TRY(const Sequence* items, iterate(heap, container));
  for (const Value& candidate : items->items) {
    if (candidate.same_as(item)) return true;
    TRY(const bool same, equals(heap, candidate, item));
    if (same) return true;
  }
  return false;
}

const Value* find_key(const Dict& dict, std::string_view key) {
  for (const auto& [known, value] : dict.entries) {
    if (known.is(Kind::string) && known.as_string() == key) return &value;
  }
  return nullptr;
}

Result<const Value*> find_key(Heap& heap, const Dict& dict, const Value& key) {
  TRY_STATUS(heap.spend(1 + dict.entries.size() / 16));
  if (key.is(Kind::string)) return find_key(dict, key.as_string());
  TRY_STATUS(require_hashable(key));
  for (const auto& [known, value] : dict.entries) {
    TRY(const bool same, equals(heap, known, key));
    if (same) return &value;
  }
  return nullptr;
}

Result<Value> make_dict(Heap& heap, std::vector<std::pair<Value, Value>> entries) {
  Dict dict;
  for (auto& [key, value] : entries) {
    TRY(const Value* known, find_key(heap, dict, key));
    if (known != nullptr) {
      *const_cast<Value*>(known) = value;
    } else {
      TRY_STATUS(require_hashable(key));
      dict.entries.emplace_back(key, value);
    }
  }
  return heap.dict(std::move(dict.entries));
}

// Merge sort, bottom up: the comparison can fail, which std::sort could not survive.
Status sort_values(Heap& heap, std::vector<std::pair<Value, Value>>* keyed, bool reverse) {
  using Rows = std::vector<std::pair<Value, Value>>;
  // Equal keys keep their order, also in reverse.
  const auto goes_first = [&](const Value& right, const Value& left) {
    return reverse ? less(heap, left, right) : less(heap, right, left);
  };
  Rows other(keyed->size());
  Rows *from = keyed, *to = &other;
  const size_t n = keyed->size();
  for (size_t width = 1; width < n; width *= 2, std::swap(from, to)) {
    for (size_t begin = 0; begin < n; begin += 2 * width) {
      const size_t middle = std::min(begin + width, n), end = std::min(begin + 2 * width, n);
      size_t left = begin, right = middle;
      for (size_t out = begin; out < end; ++out) {
        bool take_right = left == middle;
        if (left < middle && right < end) {
          TRY(take_right, goes_first((*from)[right].first, (*from)[left].first));
        }
        (*to)[out] = (*from)[take_right ? right++ : left++];
      }
    }
  }
  if (from != keyed) *keyed = std::move(*from);
  return {};
}

Status sort_entries(Heap& heap, std::vector<std::pair<Value, Value>>* entries) {
  return sort_values(heap, entries, false);
}

}  // namespace ashlar::text::jinja
