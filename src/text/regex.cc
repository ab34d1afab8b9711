#include "text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "text/onig_pattern.h"

namespace ashlar::text {
namespace {

// Steps of one search. Ordinary text needs a few per character; the limit only stops patterns that
// backtrack without end.
constexpr uint32_t kMatchLimit = 100'000'000;
constexpr size_t kJitStackBytes = size_t{8} << 20;
constexpr size_t kMaxPatternBytes = 64 << 10;

std::string message_of(int code) {
  PCRE2_UCHAR text[160] = {};
  pcre2_get_error_message(code, text, sizeof text);
  return reinterpret_cast<const char*>(text);
}

PCRE2_SPTR bytes_of(std::string_view text) { return reinterpret_cast<PCRE2_SPTR>(text.data()); }

}  // namespace

void Regex::Free::operator()(pcre2_real_code_8* code) const { pcre2_code_free(code); }

Result<Regex> Regex::compile(std::string_view pattern) {
  if (pattern.size() > kMaxPatternBytes) {
    return invalid("regex of {} bytes, limit {}", pattern.size(), kMaxPatternBytes);
  }
  Regex regex;
  TRY(regex.translated_, pcre2_from_onig(pattern));
  const std::unique_ptr<pcre2_compile_context, decltype(&pcre2_compile_context_free)> context(
      pcre2_compile_context_create(nullptr), &pcre2_compile_context_free);
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int code = 0;
  size_t offset = 0;
  regex.code_.reset(pcre2_compile(bytes_of(regex.translated_), regex.translated_.size(),
                                  PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C,
                                  &code, &offset, context.get()));
  if (!regex.code_) {
    return invalid("regex \"{}\": {}", excerpt(pattern, 200), message_of(code));
  }
  // Without JIT (a hardened kernel may forbid it) matching works the same, slower.
  pcre2_jit_compile(regex.code_.get(), PCRE2_JIT_COMPLETE);
  return regex;
}

Result<Regex> Regex::literal(std::string_view text) {
  std::string pattern;
  for (const char c : text) {
    if (static_cast<unsigned char>(c) < 0x80 && c != '\n' && c != '\r' && c != '\t' &&
        std::string_view("\\^$.|?*+()[]{}").find(c) != std::string_view::npos) {
      pattern += '\\';
    }
    pattern += c;
  }
  return compile(pattern);
}

Matcher::Matcher()
    : data_(pcre2_match_data_create(1, nullptr)),
      limits_(pcre2_match_context_create(nullptr)),
      stack_(pcre2_jit_stack_create(32 << 10, kJitStackBytes, nullptr)) {
  CHECK(data_ != nullptr && limits_ != nullptr && stack_ != nullptr, "out of memory");
  pcre2_set_match_limit(limits_, kMatchLimit);
  pcre2_jit_stack_assign(limits_, nullptr, stack_);
}

Matcher::~Matcher() {
  pcre2_jit_stack_free(stack_);
  pcre2_match_context_free(limits_);
  pcre2_match_data_free(data_);
}

Result<bool> Matcher::find(const Regex& regex, std::string_view text, size_t from, Span* found) {
  const int code = pcre2_match(regex.code_.get(), bytes_of(text), text.size(), from,
                               PCRE2_NO_UTF_CHECK, data_, limits_);
  if (code == PCRE2_ERROR_NOMATCH) return false;
  if (code < 0) {
    return error(Code::exhausted, "regex \"{}\" on {} bytes of text: {}",
                 excerpt(regex.translated_, 80), text.size(), message_of(code));
  }
  const size_t* offsets = pcre2_get_ovector_pointer(data_);
  *found = {offsets[0], offsets[1]};
  return true;
}

}  // namespace ashlar::text
