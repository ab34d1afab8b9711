#include <algorithm>
#include <array>
#include <charconv>

#include "text/template/arguments.h"
#include "text/template/characters.h"
#include "text/template/interpreter.h"
#include "text/template/operators.h"
#include "text/template/pick.h"

namespace ashlar::text::jinja {
namespace {

Value absent(std::string_view why) { return Value::undefined(Absence::hint, why); }

Result<Value> length_filter(Interpreter& run, const Value& value, const Args& args) {
  TRY_STATUS(no_arguments(args, "length"));
  TRY(const int64_t n, length(run.heap(), value));
  return Value::integer(n);
}

Result<Value> list_filter(Interpreter& run, const Value& value, const Args& args) {
  TRY_STATUS(no_arguments(args, "list"));
  TRY(const Sequence* items, iterate(run.heap(), value));
  return run.heap().list(items->items);
}

Result<Value> items_filter(Interpreter& run, const Value& value, const Args& args) {
  TRY_STATUS(no_arguments(args, "items"));
  if (value.is(Kind::undefined)) return run.heap().sequence(Shape::generator, {});
  if (!value.is(Kind::dict)) return invalid("items needs a mapping, not {}", value.type_name());
  return run.heap().sequence(Shape::generator, pairs_of(run.heap(), *value.as_dict()));
}

Result<Value> first_filter(Interpreter& run, const Value& value, const Args& args) {
  TRY_STATUS(no_arguments(args, "first"));
  if (is_shape(value, Shape::generator)) {
    Sequence& rest = *value.as_sequence();
    return rest.n_read < rest.items.size() ? rest.items[rest.n_read++]
                                           : absent("the sequence has no first item");
  }
  TRY(const Sequence* items, iterate(run.heap(), value));
  return items->items.empty() ? absent("the sequence has no first item") : items->items.front();
}

Result<Value> last_filter(Interpreter& run, const Value& value, const Args& args) {
  TRY_STATUS(no_arguments(args, "last"));
  if (is_shape(value, Shape::generator)) return invalid("a generator has no last item");
  TRY(const Sequence* items, iterate(run.heap(), value));
  return items->items.empty() ? absent("the sequence has no last item") : items->items.back();
}

Result<Value> reverse_filter(Interpreter& run, const Value& value, const Args& args) {
  TRY_STATUS(no_arguments(args, "reverse"));
  if (value.is(Kind::string)) {
    return slice(run.heap(), value, Value::none(), Value::none(), Value::integer(-1));
  }
  TRY(const Sequence* items, iterate(run.heap(), value));
  const bool reversible = !is_shape(value, Shape::generator);
  return run.heap().sequence(reversible ? Shape::generator : Shape::list,
                             {items->items.rbegin(), items->items.rend()});
}

using Rows = std::vector<std::pair<Value, Value>>;

std::vector<Value> values_of(const Rows& rows) {
  std::vector<Value> values;
  values.reserve(rows.size());
  for (const auto& [key, value] : rows) values.push_back(value);
  return values;
}

// A sort attribute may name several, with commas.
Result<Value> sort_key(Interpreter& run, const Value& item, const Value& path,
                       bool case_sensitive) {
  if (!path.is(Kind::string) || path.as_string().find(',') == std::string_view::npos) {
    return pick_key(run, item, path, case_sensitive);
  }
  std::vector<Value> keys;
  for (const std::string_view part : split(path.as_string(), ",", -1, false)) {
    TRY(const Value key, pick_key(run, item, Value::string(part), case_sensitive));
    keys.push_back(key);
  }
  return run.heap().list(std::move(keys));
}

Result<Value> sort_filter(Interpreter& run, const Value& value, const Args& args) {
  TRY(const auto p, bind<3>(args, "sort", {"reverse", "case_sensitive", "attribute"}));
  TRY(const Sequence* items, iterate(run.heap(), value));
  Rows rows;
  for (const Value& item : items->items) {
    TRY(const Value key, sort_key(run, item, p[2], flag_argument(p[1], false)));
    rows.emplace_back(key, item);
  }
  TRY_STATUS(sort_values(run.heap(), &rows, flag_argument(p[0], false)));
  return run.heap().list(values_of(rows));
}

Result<Value> dictsort_filter(Interpreter& run, const Value& value, const Args& args) {
  TRY(const auto p, bind<3>(args, "dictsort", {"case_sensitive", "by", "reverse"}));
  TRY(const std::string_view by, text_argument(p[1], "dictsort", "key"));
  TRY_STATUS(require_defined(value));
  if (!value.is(Kind::dict)) return invalid("dictsort needs a mapping, not {}", value.type_name());
  if (by != "key" && by != "value") return invalid("dictsort: by \"{}\"", excerpt(by));
  const Value position = Value::integer(by == "key" ? 0 : 1);
  Rows rows;
  for (const Value& pair : pairs_of(run.heap(), *value.as_dict())) {
    TRY(const Value key, pick_key(run, pair, position, flag_argument(p[0], false)));
    rows.emplace_back(key, pair);
  }
  TRY_STATUS(sort_values(run.heap(), &rows, flag_argument(p[2], false)));
  return run.heap().list(values_of(rows));
}

Result<Value> unique_filter(Interpreter& run, const Value& value, const Args& args) {
  TRY(const auto p, bind<2>(args, "unique", {"case_sensitive", "attribute"}));
  TRY(const Sequence* items, iterate(run.heap(), value));
  const Value seen = run.heap().list({});
  std::vector<Value> out;
  for (const Value& item : items->items) {
    TRY(const Value key, pick_key(run, item, p[1], flag_argument(p[0], false)));
    TRY(const bool known, contains(run.heap(), seen, key));
    if (known) continue;
    seen.as_sequence()->items.push_back(key);
    out.push_back(item);
  }
  return run.heap().sequence(Shape::generator, std::move(out));
}

Result<Value> groupby_filter(Interpreter& run, const Value& value, const Args& args) {
  TRY(const auto p, bind<3>(args, "groupby", {"attribute", "default", "case_sensitive"}, 1));
  const bool case_sensitive = flag_argument(p[2], false);
  TRY(const Sequence* items, iterate(run.heap(), value));
  Rows rows;
  for (const Value& item : items->items) {
    TRY(Value key, pick_key(run, item, p[0], case_sensitive));
    if (key.is(Kind::undefined) && !p[1].is_missing()) key = p[1];
    rows.emplace_back(key, item);
  }
  TRY_STATUS(sort_values(run.heap(), &rows, false));
  std::vector<Value> groups;
  for (size_t i = 0; i < rows.size();) {
    std::vector<Value> group;
    const size_t first = i;
    bool same = true;
    for (; same;) {
      group.push_back(rows[i++].second);
      if (i == rows.size()) break;
      TRY(same, equals(run.heap(), rows[first].first, rows[i].first));
    }
    TRY(Value grouper, pick(run, group.front(), p[0]));
    if (grouper.is(Kind::undefined) && !p[1].is_missing()) grouper = p[1];
    groups.push_back(run.heap().tuple({grouper, run.heap().list(std::move(group))}));
  }
  return run.heap().list(std::move(groups));
}

// Of map, select and reject: what is not true is empty, none too.
Result<Sequence*> iterate_if_true(Interpreter& run, const Value& value) {
  return iterate(run.heap(), is_true(value) ? value : Value());
}

Result<Value> map_filter(Interpreter& run, const Value& value, const Args& args) {
  TRY(const Sequence* items, iterate_if_true(run, value));
  std::vector<Value> out;
  if (args.positional.empty()) {
    TRY(const auto p, bind<2>(args, "map", {"attribute", "default"}, 1));
    for (const Value& item : items->items) {
      TRY(Value picked, pick(run, item, p[0]));
      if (picked.is(Kind::undefined) && !p[1].is_missing()) picked = p[1];
      out.push_back(picked);
    }
  } else {
    TRY(const std::string_view name, text_argument(args.positional[0], "map"));
    Args rest{{args.positional.begin() + 1, args.positional.end()}, args.keyword};
    for (const Value& item : items->items) {
      TRY(const Value mapped, run.filter(name, item, rest));
      out.push_back(mapped);
    }
  }
  return run.heap().sequence(Shape::generator, std::move(out));
}

// select, reject, and both by an attribute: the items for which a test (by default: being true)
// holds, or does not.
template <bool wanted, bool by_attribute>
Result<Value> choose(Interpreter& run, const Value& value, const Args& args) {
  const size_t n_before = by_attribute ? 1 : 0;
  if (args.positional.size() < n_before) return invalid("the attribute to select by is missing");
  const bool tested = args.positional.size() > n_before;
  std::string_view name;
  Args rest;
  if (tested) {
    TRY(name, text_argument(args.positional[n_before], "select"));
    rest.positional.assign(args.positional.begin() + static_cast<std::ptrdiff_t>(n_before) + 1,
                           args.positional.end());
    rest.keyword = args.keyword;
  }
  TRY(const Sequence* items, iterate_if_true(run, value));
  std::vector<Value> out;
  for (const Value& item : items->items) {
    Value subject = item;
    if (by_attribute) {
      TRY(subject, pick(run, item, args.positional[0]));
    }
    bool holds = is_true(subject);
    if (tested) {
      TRY(holds, run.test(name, subject, rest));
    }
    if (holds == wanted) out.push_back(item);
  }
  return run.heap().sequence(Shape::generator, std::move(out));
}

Result<Value> batch_filter(Interpreter& run, const Value& value, const Args& args) {
  TRY(const auto p, bind<2>(args, "batch", {"linecount", "fill_with"}, 1));
  TRY(const int64_t size, integer_argument(p[0], "batch", 0));
  if (size <= 0) return invalid("batch: a line count of {}", size);
  TRY(const Sequence* items, iterate(run.heap(), value));
  std::vector<Value> out, line;
  for (const Value& item : items->items) {
    if (static_cast<int64_t>(line.size()) == size)
      out.push_back(run.heap().list(std::exchange(line, {})));
    line.push_back(item);
  }
  if (!line.empty()) {
    if (!p[1].is_missing() && !p[1].is(Kind::none)) {
      TRY_STATUS(run.heap().afford(static_cast<uint64_t>(size) * 8));
      TRY_STATUS(run.heap().spend(static_cast<uint64_t>(size)));
      line.resize(static_cast<size_t>(size), p[1]);
    }
    out.push_back(run.heap().list(std::move(line)));
  }
  return run.heap().sequence(Shape::generator, std::move(out));
}

Result<Value> slice_filter(Interpreter& run, const Value& value, const Args& args) {
  TRY(const auto p, bind<2>(args, "slice", {"slices", "fill_with"}, 1));
  TRY(const int64_t n, integer_argument(p[0], "slice", 0));
  if (n <= 0) return invalid("slice: {} slices", n);
  TRY_STATUS(run.heap().spend(static_cast<uint64_t>(n)));
  TRY(const Sequence* items, iterate(run.heap(), value));
  const auto size = static_cast<int64_t>(items->items.size());
  std::vector<Value> out;
  auto from = items->items.begin();
  for (int64_t i = 0; i < n; ++i) {
    const bool longer = i < size % n;
    const auto to = from + (size / n + (longer ? 1 : 0));
    std::vector<Value> part(from, to);
    if (!longer && !p[1].is_missing() && !p[1].is(Kind::none)) part.push_back(p[1]);
    out.push_back(run.heap().list(std::move(part)));
    from = to;
  }
  return run.heap().sequence(Shape::generator, std::move(out));
}

template <bool greatest>
Result<Value> extreme(Interpreter& run, const Value& value, const Args& args) {
  TRY(const auto p, bind<2>(args, "min", {"case_sensitive", "attribute"}));
  TRY(const Sequence* items, iterate(run.heap(), value));
  if (items->items.empty()) return absent("the sequence is empty");
  Value best, best_key;
  for (size_t i = 0; i < items->items.size(); ++i) {
    TRY(const Value key, pick_key(run, items->items[i], p[1], flag_argument(p[0], false)));
    bool better = i == 0;
    if (i > 0) {
      TRY(better, greatest ? less(run.heap(), best_key, key) : less(run.heap(), key, best_key));
    }
    if (!better) continue;
    best = items->items[i];
    best_key = key;
  }
  return best;
}

Result<Value> sum_filter(Interpreter& run, const Value& value, const Args& args) {
  TRY(const auto p, bind<2>(args, "sum", {"attribute", "start"}));
  TRY(const Sequence* items, iterate(run.heap(), value));
  Value total = p[1].is_missing() ? Value::integer(0) : p[1];
  for (const Value& item : items->items) {
    Value part = item;
    if (!p[0].is_missing() && !p[0].is(Kind::none)) {
      TRY(part, pick(run, item, p[0]));
    }
    TRY(total, arithmetic(run.heap(), Op::add, total, part));
  }
  return total;
}

Result<Value> attr_filter(Interpreter& run, const Value& value, const Args& args) {
  TRY(const auto p, bind<1>(args, "attr", {"name"}, 1));
  TRY(const std::string_view name, text_argument(p[0], "attr"));
  if (value.is(Kind::dict)) {  // unlike the dot, no look at its keys
    TRY_STATUS(run.heap().spend(1));
    return Value::undefined(Absence::attribute, name, "dict");
  }
  return run.attribute(value, name);
}

Result<Value> default_filter(Interpreter&, const Value& value, const Args& args) {
  TRY(const auto p, bind<2>(args, "default", {"default_value", "boolean"}));
  const bool replaces =
      value.is(Kind::undefined) || (flag_argument(p[1], false) && !is_true(value));
  if (!replaces) return value;
  return p[0].is_missing() ? Value::string("") : p[0];
}

constexpr std::array<NativeRow, 24> kFilters = {{
    {"attr", attr_filter},
    {"batch", batch_filter},
    {"count", length_filter},
    {"d", default_filter},
    {"default", default_filter},
    {"dictsort", dictsort_filter},
    {"first", first_filter},
    {"groupby", groupby_filter},
    {"items", items_filter},
    {"last", last_filter},
    {"length", length_filter},
    {"list", list_filter},
    {"map", map_filter},
    {"max", extreme<true>},
    {"min", extreme<false>},
    {"reject", choose<false, false>},
    {"rejectattr", choose<false, true>},
    {"reverse", reverse_filter},
    {"select", choose<true, false>},
    {"selectattr", choose<true, true>},
    {"slice", slice_filter},
    {"sort", sort_filter},
    {"sum", sum_filter},
    {"unique", unique_filter},
}};

}  // namespace

Result<Value> pick(Interpreter& run, const Value& from, const Value& path) {
  if (!path.is(Kind::string)) return item(run.heap(), from, path);
  Value value = from;
  for (const std::string_view part : split(path.as_string(), ".", -1, false)) {
    int64_t index = 0;
    const auto [end, failure] = std::from_chars(part.data(), part.data() + part.size(), index);
    const bool digits = failure == std::errc() && end == part.data() + part.size() && index >= 0 &&
                        part.front() != '-';
    TRY(value, item(run.heap(), value, digits ? Value::integer(index) : Value::string(part)));
  }
  return value;
}

Result<Value> pick_key(Interpreter& run, const Value& from, const Value& path,
                       bool case_sensitive) {
  Value key = from;
  if (!path.is_missing() && !path.is(Kind::none)) {
    TRY(key, pick(run, from, path));
  }
  if (case_sensitive || !key.is(Kind::string)) return key;
  TRY_STATUS(run.heap().spend(key.as_string().size() / 16));
  return run.heap().text(lower(key.as_string()));
}

std::span<const NativeRow> sequence_filters() { return kFilters; }

}  // namespace ashlar::text::jinja
