#pragma once

// Added tokens: strings that are found in the text before anything else is done to it and become
// one token each ("<|im_end|>"). "Special" ones can also be dropped when decoding.
//
// Immutable and thread-safe.

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "text/normalizer.h"

namespace ashlar::text {

struct AddedToken {
  int32_t id = 0;
  std::string content;
  bool special = false;
  bool single_word = false;  // only where no word character touches it
  bool lstrip = false;       // takes the white space to its left with it
  bool rstrip = false;
  bool normalized = false;  // looked for after the text is normalised, itself normalised
};

// The file's "added_tokens".
Result<std::vector<AddedToken>> read_added_tokens(const Json& json);

// Finds the tokens of one class (normalized, or not) in a text.
class AddedTokenFinder {
 public:
  // Empty contents are left out; of two equal contents the first counts.
  AddedTokenFinder(const std::vector<AddedToken>& tokens, bool normalized,
                   const Normalizer& normalizer);

  struct Part {
    std::string_view text;
    int32_t token = -1;  // -1: ordinary text
  };
  // Cuts `text` at the leftmost, then longest, tokens. Special tokens are passed over as ordinary
  // text unless `parse_special`. REQUIRES valid UTF-8. O(n * length of the longest token).
  std::vector<Part> split(std::string_view text, bool parse_special) const;

 private:
  struct Node {
    std::vector<std::pair<char, uint32_t>> next;
    int32_t entry = -1;  // index into entries_ of the token that ends here
  };
  struct Entry {
    int32_t id;
    bool special, single_word, lstrip, rstrip;
  };
  void insert(std::string_view content, const AddedToken& token);
  const Entry* match(std::string_view text, size_t at, size_t* end) const;

  std::vector<Node> nodes_;  // a trie over bytes, root first
  std::vector<Entry> entries_;
};

}  // namespace ashlar::text
