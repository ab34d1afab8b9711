#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "text/template/characters.h"
#include "text/template/string_literal.h"
#include "text/template/token.h"
#include "text/utf8.h"

namespace ashlar::text::jinja {
namespace {

constexpr std::string_view kDigits = "0123456789";

// All line ends are "\n" to a template, and one at the very end does not count.
std::string normalize_newlines(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      out += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      out += source[i];
    }
  }
  if (out.ends_with('\n')) out.pop_back();
  return out;
}

bool all_space(std::string_view text) { return strip(text, std::nullopt, true, false).empty(); }

class Lexer {
 public:
  explicit Lexer(std::string source) : text_(std::move(source)), in_(text_) {}

  Result<std::vector<Token>> run() {
    while (at_ < in_.size()) TRY_STATUS(data_and_tag());
    emit(TokenKind::end, "");
    return std::move(tokens_);
  }

 private:
  Error fail(std::string_view what) const { return invalid("line {}: {}", line_, what); }
  Error at_line(const Error& failure) const {
    return Error{failure.code, fmt::format("line {}: {}", line_, failure.text)};
  }

  void emit(TokenKind kind, std::string_view text) {
    tokens_.push_back({.kind = kind, .line = line_, .text = std::string(text)});
  }
  void advance(size_t n) {
    const std::string_view passed = in_.substr(at_, n);
    line_ += static_cast<int>(std::count(passed.begin(), passed.end(), '\n'));
    at_ += passed.size();
  }
  bool next_is(std::string_view text) const { return in_.substr(at_).starts_with(text); }
  void skip_space() {
    const std::string_view rest = in_.substr(at_);
    advance(rest.size() - strip(rest, std::nullopt, true, false).size());
  }

  // Where the next tag begins at or after at_, or the end.
  size_t find_tag() const {
    size_t at = in_.find('{', at_);
    while (at != std::string_view::npos &&
           (at + 1 == in_.size() || std::string_view("{%#").find(in_[at + 1]) == in_.npos)) {
      at = in_.find('{', at + 1);
    }
    return std::min(at, in_.size());
  }

  // The sign after a tag's opening, if any, says what happens to the white space before it.
  char sign_at(size_t at) const {
    return at < in_.size() && (in_[at] == '-' || in_[at] == '+') ? in_[at] : '\0';
  }

  // Text before a tag: "-" drops its trailing space; otherwise a block or comment that is first on
  // its line drops the indentation.
  static std::string_view before_tag(std::string_view text, char sign, bool variable,
                                     bool line_starting) {
    if (sign == '-') return strip(text, std::nullopt, false, true);
    if (sign == '+' || variable) return text;
    const size_t newline = text.rfind('\n');
    if (newline == std::string_view::npos && !line_starting) return text;
    const size_t line = newline == std::string_view::npos ? 0 : newline + 1;
    return all_space(text.substr(line)) ? text.substr(0, line) : text;
  }

  Status data_and_tag() {
    const size_t tag = find_tag();
    const std::string_view text = in_.substr(at_, tag - at_);
    if (tag == in_.size()) {
      emit(TokenKind::data, text);
      advance(text.size());
      return {};
    }
    const char sign = sign_at(tag + 2);
    const bool variable = in_[tag + 1] == '{';
    const std::string_view kept = before_tag(text, sign, variable, line_starting_);
    if (!kept.empty()) emit(TokenKind::data, kept);
    advance(text.size() + 2 + (sign != '\0' ? 1 : 0));
    line_starting_ = false;
    if (in_[tag + 1] == '#') return comment();
    if (!variable && raw_begins()) return raw();
    emit(variable ? TokenKind::variable_begin : TokenKind::block_begin, "");
    return tag_tokens(variable);
  }

  // Behind the name in "{% raw %}" or "{% endraw %}": the end of that tag. `trims` is false for
  // "raw", whose newline stays.
  bool tag_closes(bool trims) {
    skip_space();
    const size_t begin = at_;
    if (next_is("-%}")) {
      advance(3);
      skip_space();
    } else if (next_is("%}")) {
      advance(2);
      if (trims && next_is("\n")) advance(1);
    } else if (trims && next_is("+%}")) {
      advance(3);
    } else {
      return false;
    }
    line_starting_ = at_ > begin && in_[at_ - 1] == '\n';
    return true;
  }

  bool word_closes(std::string_view word, bool trims) {
    const size_t at = at_;
    const int line = line_;
    skip_space();
    if (next_is(word)) {
      advance(word.size());
      if (tag_closes(trims)) return true;
    }
    at_ = at;
    line_ = line;
    return false;
  }

  bool raw_begins() { return word_closes("raw", false); }

  Status raw() {
    const size_t begin = at_;
    const int line = line_;
    const bool starting = line_starting_;
    for (size_t tag = in_.find("{%", at_); tag != std::string_view::npos;
         tag = in_.find("{%", tag + 1)) {
      const char sign = sign_at(tag + 2);
      advance(tag - at_ + 2 + (sign != '\0' ? 1 : 0));
      if (!word_closes("endraw", true)) {
        at_ = tag + 1;
        continue;
      }
      const std::string_view kept =
          before_tag(in_.substr(begin, tag - begin), sign, false, starting);
      if (!kept.empty()) {
        emit(TokenKind::data, kept);
        tokens_.back().line = line;
      }
      return {};
    }
    return fail("\"raw\" without \"endraw\"");
  }

  Status comment() {
    const size_t end = in_.find("#}", at_);
    if (end == std::string_view::npos) return fail("a comment without its \"#}\"");
    const bool signed_end = end > at_ && (in_[end - 1] == '-' || in_[end - 1] == '+');
    const bool strips = signed_end && in_[end - 1] == '-';
    advance(end + 2 - at_);
    if (strips) {
      skip_space();
    } else if (!signed_end && next_is("\n")) {
      advance(1);
    }
    line_starting_ = in_[at_ - 1] == '\n';
    return {};
  }

  // True when the tag ends here; everything it swallows is passed.
  bool end_of_tag(bool variable) {
    if (!brackets_.empty()) return false;
    const std::string_view close = variable ? "}}" : "%}";
    const bool strips = next_is("-") && in_.substr(at_ + 1).starts_with(close);
    const bool keeps = !variable && next_is("+") && in_.substr(at_ + 1).starts_with(close);
    if (!strips && !keeps && !next_is(close)) return false;
    advance(strips || keeps ? 3 : 2);
    if (strips) {
      skip_space();
    } else if (!variable && !keeps && next_is("\n")) {
      advance(1);
    }
    line_starting_ = in_[at_ - 1] == '\n';
    return true;
  }

  Status tag_tokens(bool variable) {
    const int line = line_;
    while (true) {
      skip_space();
      if (at_ >= in_.size()) {
        return invalid("line {}: a \"{}\" without its end", line, variable ? "{{" : "{%");
      }
      const int end_line = line_;
      if (end_of_tag(variable)) {
        emit(variable ? TokenKind::variable_end : TokenKind::block_end, "");
        tokens_.back().line = end_line;
        return {};
      }
      TRY_STATUS(token());
    }
  }

  Status token() {
    const char c = in_[at_];
    if (kDigits.find(c) != std::string_view::npos) return number();
    if (c == '"' || c == '\'') return string();
    if (name_length() > 0) {
      const size_t length = name_length();
      emit(TokenKind::name, in_.substr(at_, length));
      advance(length);
      return {};
    }
    return symbol();
  }

  size_t name_length() const {
    size_t end = at_;
    while (end < in_.size()) {
      const Utf8Step step = read_utf8(in_, end);
      const bool first = end == at_;
      if (step.code != '_' && !is_alpha(step.code) && (first || !is_decimal(step.code))) break;
      end += step.length;
    }
    return end - at_;
  }

  Status symbol() {
    static constexpr std::array<std::string_view, 26> kSymbols = {
        "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[",
        "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ",", ";"};
    for (const std::string_view symbol : kSymbols) {
      if (!next_is(symbol)) continue;
      TRY_STATUS(balance(symbol.front()));
      emit(TokenKind::symbol, symbol);
      advance(symbol.size());
      return {};
    }
    return fail(
        fmt::format("unexpected \"{}\"", excerpt(in_.substr(at_, read_utf8(in_, at_).length))));
  }

  Status balance(char c) {
    static constexpr std::string_view kOpen = "([{", kClose = ")]}";
    if (kOpen.find(c) != std::string_view::npos) {
      brackets_ += kClose[kOpen.find(c)];
    } else if (kClose.find(c) != std::string_view::npos) {
      if (brackets_.empty()) return fail(fmt::format("unexpected \"{}\"", c));
      if (brackets_.back() != c) {
        return fail(fmt::format("unexpected \"{}\", expected \"{}\"", c, brackets_.back()));
      }
      brackets_.pop_back();
    }
    return {};
  }

  Status string() {
    const char quote = in_[at_];
    size_t end = at_ + 1;
    while (end < in_.size() && in_[end] != quote) end += in_[end] == '\\' ? 2 : 1;
    if (end >= in_.size()) return fail("a string without its closing quote");
    Result<std::string> text = unescape_string(in_.substr(at_ + 1, end - at_ - 1));
    if (!text) return at_line(text.error());
    emit(TokenKind::string, *text);
    advance(end + 1 - at_);
    return {};
  }

  Status number() {
    const bool after_dot = at_ > 0 && in_[at_ - 1] == '.';
    size_t length = 0;
    Result<Literal> value = parse_number_literal(in_.substr(at_), !after_dot, &length);
    if (!value) return at_line(value.error());
    emit(TokenKind::number, in_.substr(at_, length));
    tokens_.back().number = *std::move(value);
    advance(length);
    return {};
  }

  const std::string text_;
  const std::string_view in_;
  size_t at_ = 0;
  int line_ = 1;
  bool line_starting_ = true;  // what was passed last ended a line
  std::string brackets_;       // the closing ones still expected
  std::vector<Token> tokens_;
};

}  // namespace

Result<std::vector<Token>> tokenize(std::string_view source) {
  return Lexer(normalize_newlines(source)).run();
}

}  // namespace ashlar::text::jinja
