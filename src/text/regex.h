#pragma once

// Regex: the split patterns of tokenizers, which are written for Oniguruma, run by PCRE2 (JIT).
// The pattern is rewritten where the two differ: \s and \S are exactly Unicode's White_Space,
// \uHHHH is a code point, ^ and $ stand at line ends, X{n,m}+ repeats the group. A construct whose
// meaning is not known to be the same in both is refused by name, never passed through.
//
// Immutable and thread-safe; each matching thread brings its own Matcher.

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"

struct pcre2_real_code_8;
struct pcre2_real_match_data_8;
struct pcre2_real_match_context_8;
struct pcre2_real_jit_stack_8;

namespace ashlar::text {

struct Span {
  size_t begin = 0;
  size_t end = 0;
  bool operator==(const Span&) const = default;
};

class Regex {
 public:
  static Result<Regex> compile(std::string_view pattern);

  // Exactly this text.
  static Result<Regex> literal(std::string_view text);

  // The pattern as PCRE2 got it (tests, messages).
  const std::string& translated() const { return translated_; }

 private:
  friend class Matcher;
  struct Free {
    void operator()(pcre2_real_code_8* code) const;
  };
  std::unique_ptr<pcre2_real_code_8, Free> code_;
  std::string translated_;
};

// The scratch memory of matching. One thread at a time.
class Matcher {
 public:
  Matcher();
  ~Matcher();
  Matcher(const Matcher&) = delete;
  Matcher& operator=(const Matcher&) = delete;

  // The leftmost match at or after `from`: true and *found, or false. Exhausted when the search
  // exceeds its limit (backtracking patterns can be slow on hostile text).
  // REQUIRES text is valid UTF-8 and `from` a character boundary.
  Result<bool> find(const Regex& regex, std::string_view text, size_t from, Span* found);

 private:
  pcre2_real_match_data_8* data_;
  pcre2_real_match_context_8* limits_;
  pcre2_real_jit_stack_8* stack_;
};

}  // namespace ashlar::text
