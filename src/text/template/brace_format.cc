#include <charconv>

#include "text/template/format.h"
#include "text/template/interpreter.h"
#include "text/template/operators.h"
#include "text/template/print.h"

namespace ashlar::text::jinja {
namespace {

bool all_digits(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

Result<size_t> index_of(std::string_view digits) {
  size_t index = 0;
  const auto [end, failure] = std::from_chars(digits.data(), digits.data() + digits.size(), index);
  if (failure != std::errc()) return invalid("format: the position {} is too large", digits);
  return index;
}

// The fields of one str.format call.
class Fields {
 public:
  Fields(Interpreter& run, const Args& args) : run_(run), args_(args) {}

  // The value of the field "name.attribute[item]", or of the next position when it has no name.
  Result<Value> value(std::string_view path) {
    const size_t end = std::min(path.find_first_of(".["), path.size());
    TRY(Value value, root(path.substr(0, end)));
    for (size_t at = end; at < path.size();) {
      if (path[at] == '.') {
        const size_t stop = std::min(path.find_first_of(".[", at + 1), path.size());
        TRY(value, run_.attribute(value, run_.heap().keep(path.substr(at + 1, stop - at - 1))));
        at = stop;
        continue;
      }
      const size_t stop = path.find(']', at);
      if (path[at] != '[' || stop == std::string_view::npos) return invalid("format: a bad field");
      const std::string_view key = path.substr(at + 1, stop - at - 1);
      Value index = Value::string(key);
      if (all_digits(key)) {
        TRY(const size_t position, index_of(key));
        index = Value::integer(static_cast<int64_t>(position));
      }
      TRY(value, item(run_.heap(), value, index));
      at = stop + 1;
    }
    return value;
  }

 private:
  Result<Value> root(std::string_view name) {
    if (!name.empty() && !all_digits(name)) {
      for (const auto& [known, value] : args_.keyword) {
        if (known == name) return value;
      }
      return invalid("format: no argument \"{}\"", excerpt(name));
    }
    size_t index = n_automatic_;
    if (name.empty()) {
      ++n_automatic_;
    } else {
      TRY(index, index_of(name));
    }
    if (index >= args_.positional.size()) return invalid("format: no argument {}", index);
    return args_.positional[index];
  }

  Interpreter& run_;
  const Args& args_;
  size_t n_automatic_ = 0;
};

}  // namespace

Result<Value> format_braces(Interpreter& run, const Value& pattern, const Args& args) {
  Heap& heap = run.heap();
  const std::string_view text = pattern.as_string();
  TRY_STATUS(heap.spend(1 + text.size() / 16));
  Fields fields(run, args);
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const char c = text[at];
    if ((c == '{' || c == '}') && text.substr(at + 1).starts_with(c)) {
      out += c;
      at += 2;
    } else if (c == '}') {
      return invalid("format: a single \"}}\"");
    } else if (c != '{') {
      out += c;
      ++at;
    } else {
      const size_t end = text.find('}', at);
      if (end == std::string_view::npos) return invalid("format: a \"{{\" without its \"}}\"");
      std::string_view path = text.substr(at + 1, end - at - 1);
      if (path.find_first_of(":{") != std::string_view::npos) {
        return unsupported("format: the specification in \"{}\"; known: {{}}, {{0}}, {{name}}",
                           excerpt(path));
      }
      const bool repr = path.ends_with("!r");
      if (repr || path.ends_with("!s")) path.remove_suffix(2);
      TRY(const Value value, fields.value(path));
      std::string piece;
      TRY_STATUS(repr ? append_repr(heap, value, &piece) : append_str(heap, value, &piece));
      TRY_STATUS(heap.spend(1 + piece.size() / 16));
      TRY_STATUS(heap.afford(out.size() + piece.size()));
      out += pattern.is_safe() && !value.is_safe() ? escape_html(piece) : piece;
      at = end + 1;
    }
  }
  return heap.text(out, pattern.is_safe());
}

}  // namespace ashlar::text::jinja
