#pragma once

// The pre-tokenizer of a tokenizer.json: cuts text into the pieces that BPE works on, none of which
// a token may straddle. Supported: Split, Digits, Sequence, and ByteLevel, which must come last
// (the pieces stay plain bytes here; bpe.h knows the byte alphabet).
//
// Immutable and thread-safe.

#include <deque>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "text/regex.h"

namespace ashlar::text {

// What becomes of a match: a piece of its own, dropped, or joined to its neighbour.
enum class SplitBehavior : uint8_t {
  isolated,
  removed,
  contiguous,
  merged_with_previous,
  merged_with_next
};

class PreTokenizer {
 public:
  static Result<PreTokenizer> from_json(const Json& json);

  // The pieces of one stretch of text, none empty, appended to `pieces`. They point into `text` or,
  // where a space was put in front, into `spaced`. REQUIRES valid UTF-8.
  Status split(std::string_view text, Matcher& matcher, std::deque<std::string>* spaced,
               std::vector<std::string_view>* pieces) const;

 private:
  struct Split {
    Regex pattern;
    SplitBehavior behavior = SplitBehavior::isolated;
    bool invert = false;
  };
  struct Digits {
    bool individual = false;
  };
  struct PrefixSpace {};
  using Step = std::variant<Split, Digits, PrefixSpace>;

  Status add(const Json& json, int depth);
  Status add_split(const Json& json);
  Status add_byte_level(const Json& json);
  static Status apply(const Split& step, std::string_view piece, Matcher& matcher,
                      std::vector<std::string_view>* out);
  static void apply(const Digits& step, std::string_view piece, std::vector<std::string_view>* out);

  std::vector<Step> steps_;
  bool byte_level_ = false;  // the end of the steps: nothing may follow
};

}  // namespace ashlar::text
