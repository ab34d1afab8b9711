#include "text/added_tokens.h"

#include <utf8proc.h>

#include <algorithm>

#include "text/schema.h"
#include "text/utf8.h"

namespace ashlar::text {
namespace {

// Unicode White_Space.
bool is_space(char32_t code) {
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(code));
  return (code >= 0x09 && code <= 0x0D) || code == 0x85 || category == UTF8PROC_CATEGORY_ZS ||
         category == UTF8PROC_CATEGORY_ZL || category == UTF8PROC_CATEGORY_ZP;
}

// \w of Rust's regex crate: letters, marks, decimal and letter numbers, connectors, joiners, and
// letters in circles and squares.
bool is_word(char32_t code) {
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(code))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC: return true;
    default: break;
  }
  return code == 0x200C || code == 0x200D || (code >= 0x24B6 && code <= 0x24E9) ||
         (code >= 0x1F130 && code <= 0x1F149) || (code >= 0x1F150 && code <= 0x1F169) ||
         (code >= 0x1F170 && code <= 0x1F189);
}

// How far white space reaches left from `end`, and right from `begin`.
size_t space_begin(std::string_view text, size_t end) {
  while (end > 0) {
    const size_t before = previous_utf8(text, end);
    if (!is_space(read_utf8(text, before).code)) break;
    end = before;
  }
  return end;
}

size_t space_end(std::string_view text, size_t begin) {
  while (begin < text.size()) {
    const Utf8Step step = read_utf8(text, begin);
    if (!is_space(step.code)) break;
    begin += step.length;
  }
  return begin;
}

bool stands_alone(std::string_view text, size_t begin, size_t end) {
  const bool word_before = begin > 0 && is_word(read_utf8(text, previous_utf8(text, begin)).code);
  const bool word_after = end < text.size() && is_word(read_utf8(text, end).code);
  return !word_before && !word_after;
}

}  // namespace

Result<std::vector<AddedToken>> read_added_tokens(const Json& json) {
  constexpr std::string_view kWhat = "added_tokens[]";
  std::vector<AddedToken> tokens;
  if (json.is_null()) return tokens;
  if (!json.is_array()) {
    return invalid("tokenizer: added_tokens is {}, expected an array", json.kind());
  }
  for (const Json& row : json.as_array()) {
    if (!row.is_object())
      return invalid("tokenizer: {} is {}, expected an object", kWhat, row.kind());
    TRY_STATUS(only_keys(
        row, kWhat, {"id", "content", "special", "single_word", "lstrip", "rstrip", "normalized"}));
    AddedToken token;
    TRY(const int64_t id, int_at(row, kWhat, "id"));
    if (id < 0 || id > (1 << 30)) return invalid("tokenizer: {}.id is {}", kWhat, id);
    token.id = static_cast<int32_t>(id);
    TRY(token.content, string_at(row, kWhat, "content"));
    TRY(token.special, bool_at(row, kWhat, "special"));
    TRY(token.single_word, bool_at(row, kWhat, "single_word", false));
    TRY(token.lstrip, bool_at(row, kWhat, "lstrip", false));
    TRY(token.rstrip, bool_at(row, kWhat, "rstrip", false));
    TRY(token.normalized, bool_at(row, kWhat, "normalized", !token.special));
    tokens.push_back(std::move(token));
  }
  return tokens;
}

AddedTokenFinder::AddedTokenFinder(const std::vector<AddedToken>& tokens, bool normalized,
                                   const Normalizer& normalizer)
    : nodes_(1) {
  // Special tokens first: they win where normalising makes two contents equal.
  for (const bool special : {true, false}) {
    for (const AddedToken& token : tokens) {
      if (token.special != special || token.normalized != normalized) continue;
      insert(normalized ? normalizer.apply(token.content) : token.content, token);
    }
  }
}

void AddedTokenFinder::insert(std::string_view content, const AddedToken& token) {
  if (content.empty()) return;
  uint32_t node = 0;
  for (const char c : content) {
    auto& next = nodes_[node].next;
    const auto it = std::lower_bound(next.begin(), next.end(), std::pair<char, uint32_t>(c, 0));
    if (it != next.end() && it->first == c) {
      node = it->second;
      continue;
    }
    const auto fresh = static_cast<uint32_t>(nodes_.size());
    next.insert(it, {c, fresh});
    nodes_.emplace_back();  // `next` dangles from here on
    node = fresh;
  }
  if (nodes_[node].entry >= 0) return;
  nodes_[node].entry = static_cast<int32_t>(entries_.size());
  entries_.push_back({token.id, token.special, token.single_word, token.lstrip, token.rstrip});
}

// The longest token that begins at text[at].
const AddedTokenFinder::Entry* AddedTokenFinder::match(std::string_view text, size_t at,
                                                       size_t* end) const {
  int32_t found = -1;
  const Node* node = &nodes_[0];
  for (size_t i = at; i < text.size(); ++i) {
    const auto it = std::lower_bound(node->next.begin(), node->next.end(),
                                     std::pair<char, uint32_t>(text[i], 0));
    if (it == node->next.end() || it->first != text[i]) break;
    node = &nodes_[it->second];
    if (node->entry >= 0) {
      found = node->entry;
      *end = i + 1;
    }
  }
  return found < 0 ? nullptr : &entries_[static_cast<size_t>(found)];
}

std::vector<AddedTokenFinder::Part> AddedTokenFinder::split(std::string_view text,
                                                            bool parse_special) const {
  std::vector<Part> parts;
  size_t begin = 0;  // of what is not yet in `parts`
  for (size_t at = 0; !entries_.empty() && at < text.size();) {
    size_t end = 0;
    const Entry* entry = match(text, at, &end);
    if (entry == nullptr) {
      ++at;
      continue;
    }
    size_t from = at;
    at = end;  // the search goes on behind the token, whatever becomes of it
    if (entry->special && !parse_special) continue;
    if (entry->single_word && !stands_alone(text, from, end)) continue;
    if (entry->lstrip) from = std::max(space_begin(text, from), begin);
    if (entry->rstrip) end = space_end(text, end);
    if (begin < from) parts.push_back({text.substr(begin, from - begin)});
    parts.push_back({text.substr(from, end - from), entry->id});
    begin = end;
  }
  if (begin < text.size()) parts.push_back({text.substr(begin)});
  return parts;
}

}  // namespace ashlar::text
