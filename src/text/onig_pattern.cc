#include "text/onig_pattern.h"

#include <vector>

namespace ashlar::text {
namespace {

// Unicode White_Space, as members of a character class. PCRE2's own \s also takes U+180E.
constexpr std::string_view kSpace = "\\x09-\\x0D\\x{85}\\p{Z}";

constexpr std::string_view kPunctuation = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~ ";

class Translator {
 public:
  explicit Translator(std::string_view pattern) : in_(pattern) {}

  Result<std::string> run() {
    while (at_ < in_.size()) {
      const char c = in_[at_];
      if (c == '\\') {
        begin_atom();
        TRY_STATUS(escape(false));
      } else if (c == '[') {
        begin_atom();
        TRY_STATUS(char_class());
      } else if (c == '(') {
        TRY_STATUS(open_group());
      } else if (c == ')') {
        if (groups_.empty()) return refuse("an unmatched ')'");
        atom_ = groups_.back();
        groups_.pop_back();
        copy(1);
      } else if (c == '{') {
        TRY_STATUS(interval());
      } else {
        if (std::string_view("*+?|^$.").find(c) == std::string_view::npos) begin_atom();
        if (c == '.') begin_atom();
        copy(1);
      }
    }
    if (!groups_.empty()) return refuse("a '(' without its ')'");
    return std::move(out_);
  }

 private:
  Error refuse(std::string_view what) const {
    return unsupported("regex \"{}\": {} at byte {} is not supported", excerpt(in_, 200), what,
                       at_);
  }
  void begin_atom() { atom_ = out_.size(); }
  void copy(size_t n) {
    out_ += in_.substr(at_, n);
    at_ += n;
  }
  bool next_is(std::string_view text) const { return in_.substr(at_).starts_with(text); }

  // One backslash escape, inside or outside a class.
  Status escape(bool in_class) {
    if (at_ + 1 >= in_.size()) return refuse("a trailing backslash");
    const char c = in_[at_ + 1];
    switch (c) {
      case 's':
        out_ += in_class ? std::string(kSpace) : fmt::format("[{}]", kSpace);
        at_ += 2;
        return {};
      case 'S':
        if (in_class) return refuse("\\S inside a class");
        out_ += fmt::format("[^{}]", kSpace);
        at_ += 2;
        return {};
      case 'd': return replace("\\p{Nd}", 2);
      case 'D':
        if (in_class) return refuse("\\D inside a class");
        return replace("\\P{Nd}", 2);
      case 'v': return replace("\\x0B", 2);
      case 'r':
      case 'n':
      case 't':
      case 'f': return copy(2), Status();
      case 'p':
      case 'P': return property();
      case 'x': return hex_escape();
      case 'u': return unicode_escape();
      default: break;
    }
    if (kPunctuation.find(c) == std::string_view::npos) {
      return refuse(fmt::format("the escape \"\\{}\"", c));
    }
    copy(2);
    return {};
  }

  Status replace(std::string_view text, size_t n) {
    out_ += text;
    at_ += n;
    return {};
  }

  // \p{Name} and \P{Name}. A longer name than a general category's is a script, which PCRE2 would
  // widen to its script extensions.
  Status property() {
    const size_t end = in_.find('}', at_);
    if (!in_.substr(at_ + 2).starts_with('{') || end == std::string_view::npos) {
      return refuse("a property without braces");
    }
    const std::string_view name = in_.substr(at_ + 3, end - at_ - 3);
    if (name.empty() || name.find_first_of("^:=& ") != std::string_view::npos) {
      return refuse(fmt::format("the property \"{}\"", excerpt(name)));
    }
    out_ += fmt::format("\\{}{{{}{}}}", in_[at_ + 1], name.size() > 2 ? "sc:" : "", name);
    at_ = end + 1;
    return {};
  }

  size_t hex_digits(size_t from, size_t limit) const {
    size_t n = 0;
    while (n < limit && from + n < in_.size() &&
           std::string_view("0123456789abcdefABCDEF").find(in_[from + n]) !=
               std::string_view::npos) {
      ++n;
    }
    return n;
  }

  // \xHH is a code point below 80 and a raw byte above, which UTF-8 patterns cannot mean.
  Status hex_escape() {
    if (in_.substr(at_ + 2).starts_with('{')) {
      const size_t n = hex_digits(at_ + 3, 8);
      if (n == 0 || !in_.substr(at_ + 3 + n).starts_with('}')) return refuse("a \\x{...} escape");
      copy(n + 4);
      return {};
    }
    const size_t n = hex_digits(at_ + 2, 2);
    if (n != 2 || in_[at_ + 2] > '7') return refuse("a \\x escape");
    copy(4);
    return {};
  }

  Status unicode_escape() {
    if (hex_digits(at_ + 2, 4) != 4) return refuse("a \\u escape without four digits");
    out_ += fmt::format("\\x{{{}}}", in_.substr(at_ + 2, 4));
    at_ += 6;
    return {};
  }

  Status char_class() {
    copy(1);
    if (next_is("^")) copy(1);
    if (next_is("]")) return refuse("an empty class");
    while (at_ < in_.size() && in_[at_] != ']') {
      if (in_[at_] == '\\') {
        TRY_STATUS(escape(true));
      } else if (in_[at_] == '[') {
        return refuse("a class inside a class");
      } else if (next_is("&&")) {
        return refuse("the class intersection \"&&\"");
      } else {
        copy(1);
      }
    }
    if (at_ >= in_.size()) return refuse("a '[' without its ']'");
    copy(1);
    return {};
  }

  Status open_group() {
    groups_.push_back(out_.size());
    if (!next_is("(?")) return copy(1), Status();
    for (const std::string_view kind : {"(?:", "(?=", "(?!", "(?>", "(?<=", "(?<!", "(?i:"}) {
      if (next_is(kind)) return copy(kind.size()), Status();
    }
    return refuse(fmt::format("the group \"{}\"", excerpt(in_.substr(at_, 4))));
  }

  // {n}, {n,}, {n,m}. A '+' after it repeats the whole, where PCRE2 would make it possessive.
  Status interval() {
    const size_t end = in_.find('}', at_);
    const std::string_view body =
        end == std::string_view::npos ? "" : in_.substr(at_ + 1, end - at_ - 1);
    if (body.empty() || body.front() == ',' ||
        body.find_first_not_of("0123456789,") != std::string_view::npos) {
      return refuse("a '{' that begins no interval");
    }
    copy(end + 1 - at_);
    if (next_is("+")) {
      out_.insert(atom_, "(?:");
      out_ += ")";
    }
    return {};
  }

  std::string_view in_;
  size_t at_ = 0;
  std::string out_;
  size_t atom_ = 0;             // where in out_ the thing a quantifier would repeat begins
  std::vector<size_t> groups_;  // where in out_ each open group begins
};

}  // namespace

Result<std::string> pcre2_from_onig(std::string_view pattern) { return Translator(pattern).run(); }

}  // namespace ashlar::text
