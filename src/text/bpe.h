#pragma once

// Byte-level byte-pair encoding: a piece of text starts as its bytes; the adjacent pair that was
// learnt first (lowest rank; leftmost among equals) is merged until no pair is known.
//
// Immutable and thread-safe; scratch memory comes with the call.

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/json.h"
#include "base/result.h"

namespace ashlar::text {

class Bpe {
 public:
  // The file's "model". `vocab` maps vocabulary strings (in the byte alphabet) to ids, and must
  // hold every byte that UTF-8 text can contain.
  using Vocab = std::unordered_map<std::string_view, int32_t>;
  static Result<Bpe> from_json(const Json& model, const Vocab& vocab);

  struct Scratch {
    struct Symbol {
      int32_t token;  // -1: merged into its left neighbour
      int32_t previous;
      int32_t next;  // -1: none
    };
    struct Candidate {
      uint32_t rank;
      int32_t left;
      int32_t right;
      int32_t left_token;
      int32_t right_token;
    };
    std::vector<Symbol> symbols;
    std::vector<Candidate> heap;
  };

  // Appends the tokens of one piece. O(n log n). REQUIRES piece.size() < 2^31.
  void encode(std::string_view piece, Scratch* scratch, std::vector<int32_t>* tokens) const;

 private:
  struct Merge {
    uint64_t pair = kNoPair;  // left id << 32 | right id
    uint32_t rank = 0;
    int32_t token = 0;
  };
  static constexpr uint64_t kNoPair = ~uint64_t{0};
  static uint64_t pair_of(int32_t left, int32_t right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }

  Status read_bytes(const Vocab& vocab);
  Status read_merges(const Json::Array& merges, const Vocab& vocab);
  Merge* slot(uint64_t pair);
  const Merge* find(int32_t left, int32_t right) const;
  void offer(int32_t left, Scratch* scratch) const;

  std::array<int32_t, 256> byte_token_{};
  std::vector<Merge> merges_;  // open addressing, a power of two, at most half full
  int shift_ = 63;             // hash bits dropped
  // With ignore_merges: pieces that are tokens as they stand. Keys are bytes, not alphabet.
  std::unordered_map<std::string, int32_t> whole_;
  bool ignore_merges_ = false;
};

}  // namespace ashlar::text
