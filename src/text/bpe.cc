#include "text/bpe.h"

#include <algorithm>
#include <bit>

#include "text/byte_level.h"
#include "text/schema.h"
#include "text/utf8.h"

namespace ashlar::text {
namespace {

constexpr std::string_view kWhat = "model";

// Options whose other values would change tokens and are not built.
Status refuse_other_kinds_of_bpe(const Json& model) {
  TRY_STATUS(
      only_keys(model, kWhat,
                {"type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix",
                 "fuse_unk", "byte_fallback", "ignore_merges", "vocab", "merges"}));
  const Json* type = model.find("type");
  if (type != nullptr && !(type->is_string() && type->as_string() == "BPE")) {
    return unsupported("tokenizer: model.type {} is not supported; known: \"BPE\"",
                       excerpt(type->dump()));
  }
  const Json& dropout = member(model, "dropout");
  if (!dropout.is_null() && !(dropout.is_number() && dropout.as_double() == 0)) {
    return unsupported("tokenizer: model.dropout {} is not supported; known: null, 0",
                       excerpt(dropout.dump()));
  }
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    const Json& affix = member(model, key);
    if (!affix.is_null() && !(affix.is_string() && affix.as_string().empty())) {
      return unsupported("tokenizer: model.{} {} is not supported; known: null, \"\"", key,
                         excerpt(affix.dump()));
    }
  }
  TRY(const bool byte_fallback, bool_at(model, kWhat, "byte_fallback", false));
  if (byte_fallback) {
    return unsupported("tokenizer: model.byte_fallback true is not supported; known: false");
  }
  return {};
}

// "a b" or ["a", "b"].
Result<std::pair<std::string_view, std::string_view>> halves(const Json& merge, size_t rank) {
  using Pair = std::pair<std::string_view, std::string_view>;
  if (merge.is_string()) {
    const std::string_view text = merge.as_string();
    const size_t space = text.find(' ');
    if (space != std::string_view::npos && text.find(' ', space + 1) == std::string_view::npos) {
      return Pair{text.substr(0, space), text.substr(space + 1)};
    }
  } else if (merge.is_array() && merge.as_array().size() == 2 && merge.as_array()[0].is_string() &&
             merge.as_array()[1].is_string()) {
    return Pair{merge.as_array()[0].as_string(), merge.as_array()[1].as_string()};
  }
  return invalid("tokenizer: model.merges[{}] is {}, expected \"a b\" or [\"a\", \"b\"]", rank,
                 excerpt(merge.dump()));
}

// Later ranks, then further right, come out of the heap later.
bool comes_later(const Bpe::Scratch::Candidate& a, const Bpe::Scratch::Candidate& b) {
  return a.rank != b.rank ? a.rank > b.rank : a.left > b.left;
}

}  // namespace

Result<Bpe> Bpe::from_json(const Json& model, const Vocab& vocab) {
  TRY_STATUS(refuse_other_kinds_of_bpe(model));
  Bpe bpe;
  TRY_STATUS(bpe.read_bytes(vocab));
  TRY(const Json::Array* merges, array_at(model, kWhat, "merges"));
  TRY_STATUS(bpe.read_merges(*merges, vocab));
  TRY(bpe.ignore_merges_, bool_at(model, kWhat, "ignore_merges", false));
  if (bpe.ignore_merges_) {
    for (const auto& [token, id] : vocab) {
      if (auto bytes = bytes_of_token(token)) bpe.whole_.emplace(std::move(*bytes), id);
    }
  }
  return bpe;
}

// With all these bytes present no text can meet the unknown token, so unk_token and fuse_unk, which
// say what happens then, need no reading.
Status Bpe::read_bytes(const Vocab& vocab) {
  for (int byte = 0; byte < 256; ++byte) {
    std::string character;
    append_utf8(byte_character(static_cast<uint8_t>(byte)), &character);
    const auto it = vocab.find(character);
    const bool never_in_utf8 = byte == 0xC0 || byte == 0xC1 || byte > 0xF4;
    if (it == vocab.end() && !never_in_utf8) {
      return unsupported(
          "tokenizer: model.vocab lacks \"{}\", the byte 0x{:02x}: only byte-level vocabularies "
          "with every byte are supported",
          character, byte);
    }
    byte_token_[static_cast<size_t>(byte)] = it == vocab.end() ? -1 : it->second;
  }
  return {};
}

Status Bpe::read_merges(const Json::Array& merges, const Vocab& vocab) {
  const size_t size = std::bit_ceil(std::max<size_t>(2, merges.size() * 2));
  merges_.resize(size);
  shift_ = 64 - std::countr_zero(size);
  std::string joined;
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    TRY(const auto pair, halves(merges[rank], rank));
    joined.assign(pair.first).append(pair.second);
    const auto left = vocab.find(pair.first);
    const auto right = vocab.find(pair.second);
    const auto whole = vocab.find(joined);
    if (left == vocab.end() || right == vocab.end() || whole == vocab.end()) {
      return invalid("tokenizer: model.merges[{}] {} names a token that is not in model.vocab",
                     rank, excerpt(merges[rank].dump()));
    }
    const uint64_t key = pair_of(left->second, right->second);
    *slot(key) = {key, static_cast<uint32_t>(rank), whole->second};
  }
  return {};
}

Bpe::Merge* Bpe::slot(uint64_t pair) {
  size_t at = pair * 0x9E3779B97F4A7C15u >> shift_;
  while (merges_[at].pair != kNoPair && merges_[at].pair != pair) {
    at = (at + 1) & (merges_.size() - 1);
  }
  return &merges_[at];
}

const Bpe::Merge* Bpe::find(int32_t left, int32_t right) const {
  const Merge* merge = const_cast<Bpe*>(this)->slot(pair_of(left, right));
  return merge->pair == kNoPair ? nullptr : merge;
}

void Bpe::offer(int32_t left, Scratch* scratch) const {
  const auto& symbols = scratch->symbols;
  if (left < 0) return;
  const Scratch::Symbol& a = symbols[static_cast<size_t>(left)];
  if (a.next < 0) return;
  const Scratch::Symbol& b = symbols[static_cast<size_t>(a.next)];
  const Merge* merge = find(a.token, b.token);
  if (merge == nullptr) return;
  scratch->heap.push_back({merge->rank, left, a.next, a.token, b.token});
  std::push_heap(scratch->heap.begin(), scratch->heap.end(), comes_later);
}

void Bpe::encode(std::string_view piece, Scratch* scratch, std::vector<int32_t>* tokens) const {
  if (ignore_merges_) {
    if (const auto it = whole_.find(std::string(piece)); it != whole_.end()) {
      tokens->push_back(it->second);
      return;
    }
  }
  auto& symbols = scratch->symbols;
  auto& heap = scratch->heap;
  symbols.clear();
  heap.clear();
  const auto n = static_cast<int32_t>(piece.size());
  for (int32_t i = 0; i < n; ++i) {
    const auto byte = static_cast<unsigned char>(piece[static_cast<size_t>(i)]);
    symbols.push_back({byte_token_[byte], i - 1, i + 1 < n ? i + 1 : -1});
  }
  for (int32_t i = 0; i < n; ++i) offer(i, scratch);
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), comes_later);
    const Scratch::Candidate best = heap.back();
    heap.pop_back();
    Scratch::Symbol& left = symbols[static_cast<size_t>(best.left)];
    // Stale when either side has been merged since: a merged-away right side has token -1.
    if (left.token != best.left_token || left.next != best.right) continue;
    Scratch::Symbol& right = symbols[static_cast<size_t>(best.right)];
    if (right.token != best.right_token) continue;
    left.token = find(best.left_token, best.right_token)->token;
    left.next = right.next;
    right.token = -1;
    if (left.next >= 0) symbols[static_cast<size_t>(left.next)].previous = best.left;
    offer(left.previous, scratch);
    offer(best.left, scratch);
  }
  for (int32_t i = 0; i >= 0 && n > 0; i = symbols[static_cast<size_t>(i)].next) {
    tokens->push_back(symbols[static_cast<size_t>(i)].token);
  }
}

}  // namespace ashlar::text
