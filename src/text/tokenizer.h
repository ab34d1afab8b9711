#pragma once

// Tokenizer: text to tokens and back, as a Hugging Face tokenizer.json describes it. Byte-level BPE
// only; what the file asks for and this room does not do is refused when loading, by key and value.
//
// Immutable after loading: any number of threads may use one.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "text/added_tokens.h"
#include "text/bpe.h"
#include "text/normalizer.h"
#include "text/pretokenizer.h"

namespace ashlar::text {

struct EncodeOptions {
  bool add_special_tokens = true;  // what the post-processor puts around a text (bos, mostly)
  bool parse_special = true;       // false: special tokens written in the text are ordinary text
};

class Tokenizer {
 public:
  // `what` names the source in messages. The tokenizer.json of a folder: load().
  static Result<Tokenizer> from_json(std::string_view text, std::string_view what);
  static Result<Tokenizer> load(const std::string& folder);

  // Errors: text that is not UTF-8 (invalid, with the byte offset); a split pattern that exceeds
  // its backtracking limit on this text (exhausted).
  Result<std::vector<int32_t>> encode(std::string_view text,
                                      const EncodeOptions& options = {}) const;

  // Bytes that are not UTF-8 become U+FFFD. An id that is no token is invalid.
  // No "clean up" of spaces: that is a habit of one Python front end, not of the model.
  Result<std::string> decode(std::span<const int32_t> tokens, bool skip_special = false) const;

  // The greatest id + 1; ids below it may still be unused.
  int32_t vocab_size() const { return static_cast<int32_t>(tokens_.size()); }

  // The bytes a token stands for, which may be part of a character. Invalid when `id` is no token.
  Result<std::string_view> bytes(int32_t id) const;

  // REQUIRES bytes(id) is no error.
  bool is_special(int32_t id) const { return tokens_[static_cast<size_t>(id)].special; }

  // The id of a token as the file spells it ("<|im_end|>", "\u0120the").
  std::optional<int32_t> find(std::string_view token) const;

 private:
  struct Token {
    std::string bytes;
    bool used = false;
    bool special = false;
  };
  struct SpecialFrame {
    std::vector<int32_t> before;
    std::vector<int32_t> after;
  };
  Tokenizer(Normalizer normalizer, PreTokenizer pretokenizer, Bpe bpe,
            const std::vector<AddedToken>& added);
  static Result<Tokenizer> build(const Json& json);
  Status add_tokens(const Json::Object& vocab, const std::vector<AddedToken>& added);
  Status put(int32_t id, std::string_view spelling, bool special);
  static Status read_frame(const Json& post_processor, int depth, SpecialFrame* frame);

  struct Work;
  Status encode_text(std::string_view text, Work* work) const;

  Normalizer normalizer_;
  PreTokenizer pretokenizer_;
  Bpe bpe_;
  AddedTokenFinder raw_added_;         // looked for in the text as given
  AddedTokenFinder normalized_added_;  // looked for in normalised text
  SpecialFrame frame_;
  std::vector<Token> tokens_;  // by id
  std::unordered_map<std::string, int32_t> ids_;
};

}  // namespace ashlar::text
