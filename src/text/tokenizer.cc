#include "text/tokenizer.h"

#include "base/file.h"
#include "base/json.h"
#include "text/byte_level.h"
#include "text/schema.h"
#include "text/utf8.h"

namespace ashlar::text {
namespace {

constexpr int64_t kMaxId = 1 << 24;  // ids index a table
constexpr int kMaxDepth = 8;

// ByteLevel, alone or in a Sequence of one.
Status check_decoder(const Json& decoder) {
  TRY(const std::string type, type_of(decoder, "decoder"));
  if (type == "Sequence") {
    TRY(const Json::Array* parts, array_at(decoder, "decoder", "decoders"));
    if (parts->size() == 1 && !parts->front().find("decoders"))
      return check_decoder(parts->front());
    return unsupported("tokenizer: a decoder Sequence of {}; known: ByteLevel alone",
                       parts->size());
  }
  if (type != "ByteLevel") return unknown_type("decoder", type, "ByteLevel");
  return only_keys(decoder, "decoder", {"type", "add_prefix_space", "trim_offsets", "use_regex"});
}

Result<Bpe::Vocab> read_vocab(const Json::Object& vocab) {
  Bpe::Vocab ids;
  ids.reserve(vocab.size());
  for (const auto& [token, id] : vocab) {
    if (!id.is_int() || id.as_int() < 0 || id.as_int() >= kMaxId) {
      return invalid("tokenizer: model.vocab[\"{}\"] is {}, expected an id below {}",
                     excerpt(token), excerpt(id.dump()), kMaxId);
    }
    ids.emplace(token, static_cast<int32_t>(id.as_int()));
  }
  return ids;
}

// The ids of one special token of a TemplateProcessing.
Status append_special(const Json& post, const Json& piece, std::vector<int32_t>* ids) {
  constexpr std::string_view kWhat = "post_processor.TemplateProcessing";
  TRY(const std::string name, string_at(piece, kWhat, "id"));
  const Json& row = member(member(post, "special_tokens"), name);
  if (!row.is_object()) {
    return invalid("tokenizer: {} uses \"{}\", which special_tokens lacks", kWhat, excerpt(name));
  }
  TRY(const Json::Array* values, array_at(row, kWhat, "ids"));
  for (const Json& id : *values) {
    if (!id.is_int() || id.as_int() < 0 || id.as_int() >= kMaxId) {
      return invalid("tokenizer: {}: id {} of \"{}\"", kWhat, excerpt(id.dump()), excerpt(name));
    }
    ids->push_back(static_cast<int32_t>(id.as_int()));
  }
  return {};
}

}  // namespace

// What one encode() writes to.
struct Tokenizer::Work {
  Matcher matcher;
  Bpe::Scratch scratch;
  std::deque<std::string> spaced;
  std::vector<std::string_view> pieces;
  std::vector<int32_t> tokens;
};

Result<Tokenizer> Tokenizer::load(const std::string& folder) {
  const std::string path = folder + "/tokenizer.json";
  TRY(const std::string text, read_file(path, size_t{256} << 20));
  return from_json(text, path);
}

Result<Tokenizer> Tokenizer::from_json(std::string_view text, std::string_view what) {
  TRY(const Json json, parse_json(text, what));
  Result<Tokenizer> tokenizer = build(json);
  if (!tokenizer)
    return Error{tokenizer.error().code, fmt::format("{}: {}", what, tokenizer.error().text)};
  return tokenizer;
}

Result<Tokenizer> Tokenizer::build(const Json& json) {
  if (!json.is_object()) return invalid("tokenizer: {}, expected an object", json.kind());
  // truncation and padding are habits of a caller, stored by accident: transformers resets them
  // too.
  TRY_STATUS(only_keys(json, "tokenizer.json",
                       {"version", "truncation", "padding", "added_tokens", "normalizer",
                        "pre_tokenizer", "post_processor", "decoder", "model"}));
  TRY(const auto added, read_added_tokens(member(json, "added_tokens")));
  TRY(Normalizer normalizer, Normalizer::from_json(member(json, "normalizer")));
  TRY(PreTokenizer pretokenizer, PreTokenizer::from_json(member(json, "pre_tokenizer")));
  TRY_STATUS(check_decoder(member(json, "decoder")));
  TRY_STATUS(object_at(json, "tokenizer.json", "model"));
  const Json& model = member(json, "model");
  TRY(const Json::Object* vocab, object_at(model, "model", "vocab"));
  TRY(const Bpe::Vocab ids, read_vocab(*vocab));
  TRY(Bpe bpe, Bpe::from_json(model, ids));
  Tokenizer tokenizer(normalizer, std::move(pretokenizer), std::move(bpe), added);
  TRY_STATUS(tokenizer.add_tokens(*vocab, added));
  TRY_STATUS(read_frame(member(json, "post_processor"), 0, &tokenizer.frame_));
  for (const auto* side : {&tokenizer.frame_.before, &tokenizer.frame_.after}) {
    for (const int32_t id : *side) TRY_STATUS(tokenizer.bytes(id));
  }
  return tokenizer;
}

Tokenizer::Tokenizer(Normalizer normalizer, PreTokenizer pretokenizer, Bpe bpe,
                     const std::vector<AddedToken>& added)
    : normalizer_(normalizer),
      pretokenizer_(std::move(pretokenizer)),
      bpe_(std::move(bpe)),
      raw_added_(added, false, normalizer_),
      normalized_added_(added, true, normalizer_) {}

Status Tokenizer::add_tokens(const Json::Object& vocab, const std::vector<AddedToken>& added) {
  ids_.reserve(vocab.size() + added.size());
  for (const auto& [token, id] : vocab) {
    TRY_STATUS(put(static_cast<int32_t>(id.as_int()), token, false));
  }
  for (const AddedToken& token : added) {
    if (token.id >= kMaxId) return invalid("tokenizer: added token id {}", token.id);
    TRY_STATUS(put(token.id, token.content, token.special));
  }
  return {};
}

// An added token may repeat a vocabulary entry, under the same id.
Status Tokenizer::put(int32_t id, std::string_view spelling, bool special) {
  const auto index = static_cast<size_t>(id);
  if (index >= tokens_.size()) tokens_.resize(index + 1);
  const auto [it, fresh] = ids_.emplace(spelling, id);
  if ((!fresh && it->second != id) || (fresh && tokens_[index].used)) {
    return invalid("tokenizer: the token \"{}\" and the id {} do not belong to each other alone",
                   excerpt(spelling), id);
  }
  std::optional<std::string> bytes = bytes_of_token(spelling);
  tokens_[index] = {bytes ? std::move(*bytes) : std::string(spelling), true, special};
  return {};
}

Status Tokenizer::read_frame(const Json& post, int depth, SpecialFrame* frame) {
  if (post.is_null()) return {};
  if (depth > kMaxDepth) return invalid("tokenizer: post_processor nested over {} deep", kMaxDepth);
  TRY(const std::string type, type_of(post, "post_processor"));
  if (type == "ByteLevel") return {};  // concerns character offsets only
  if (type == "Sequence") {
    TRY(const Json::Array* parts, array_at(post, "post_processor", "processors"));
    for (const Json& part : *parts) TRY_STATUS(read_frame(part, depth + 1, frame));
    return {};
  }
  if (type != "TemplateProcessing") {
    return unknown_type("post_processor", type, "ByteLevel, TemplateProcessing, Sequence");
  }
  constexpr std::string_view kWhat = "post_processor.TemplateProcessing";
  TRY_STATUS(only_keys(post, kWhat, {"type", "single", "pair", "special_tokens"}));
  TRY(const Json::Array* single, array_at(post, kWhat, "single"));
  std::vector<int32_t> before, after;
  bool seen_text = false;
  for (const Json& piece : *single) {
    if (const Json* special = piece.find("SpecialToken")) {
      TRY_STATUS(append_special(post, *special, seen_text ? &after : &before));
    } else if (piece.find("Sequence") && !seen_text) {
      seen_text = true;
    } else {
      return unsupported("tokenizer: {}.single has {}; known: SpecialToken, Sequence once", kWhat,
                         excerpt(piece.dump()));
    }
  }
  if (!seen_text) return unsupported("tokenizer: {}.single has no Sequence", kWhat);
  frame->before.insert(frame->before.begin(), before.begin(), before.end());
  frame->after.insert(frame->after.end(), after.begin(), after.end());
  return {};
}

// Text without non-normalised added tokens: normalise, cut at the others, split, merge.
Status Tokenizer::encode_text(std::string_view text, Work* work) const {
  work->pieces.clear();
  work->spaced.clear();
  TRY_STATUS(pretokenizer_.split(text, work->matcher, &work->spaced, &work->pieces));
  for (const std::string_view piece : work->pieces) {
    bpe_.encode(piece, &work->scratch, &work->tokens);
  }
  return {};
}

Result<std::vector<int32_t>> Tokenizer::encode(std::string_view text,
                                               const EncodeOptions& options) const {
  const size_t broken = find_invalid_utf8(text);
  if (broken != std::string_view::npos) {
    return invalid("text is not UTF-8 at byte {} (0x{:02x})", broken,
                   static_cast<unsigned char>(text[broken]));
  }
  if (text.size() >= size_t{1} << 31) {
    return invalid("text of {} bytes, limit {}", text.size(), (size_t{1} << 31) - 1);
  }
  Work work;
  if (options.add_special_tokens) work.tokens = frame_.before;
  for (const auto& outer : raw_added_.split(text, options.parse_special)) {
    if (outer.token >= 0) {
      work.tokens.push_back(outer.token);
      continue;
    }
    std::string normalized;
    std::string_view part = outer.text;
    if (normalizer_.changes(part)) part = normalized = normalizer_.apply(part);
    for (const auto& inner : normalized_added_.split(part, options.parse_special)) {
      if (inner.token >= 0) {
        work.tokens.push_back(inner.token);
      } else {
        TRY_STATUS(encode_text(inner.text, &work));
      }
    }
  }
  if (options.add_special_tokens) {
    work.tokens.insert(work.tokens.end(), frame_.after.begin(), frame_.after.end());
  }
  return std::move(work.tokens);
}

Result<std::string_view> Tokenizer::bytes(int32_t id) const {
  if (id < 0 || id >= vocab_size() || !tokens_[static_cast<size_t>(id)].used) {
    return invalid("token {} is not in the vocabulary (ids 0 to {})", id, vocab_size() - 1);
  }
  return std::string_view(tokens_[static_cast<size_t>(id)].bytes);
}

std::optional<int32_t> Tokenizer::find(std::string_view token) const {
  const auto it = ids_.find(std::string(token));
  if (it == ids_.end()) return std::nullopt;
  return it->second;
}

Result<std::string> Tokenizer::decode(std::span<const int32_t> tokens, bool skip_special) const {
  std::string raw;
  for (const int32_t id : tokens) {
    TRY(const std::string_view token, bytes(id));
    if (!skip_special || !is_special(id)) raw += token;
  }
  if (find_invalid_utf8(raw) == std::string_view::npos) return raw;
  std::string out;
  for (size_t i = 0; i < raw.size();) {
    const Utf8Step step = read_utf8(raw, i);
    out += step.state == Utf8State::whole ? std::string_view(raw).substr(i, step.length)
                                          : kReplacement;
    i += step.length;
  }
  return out;
}

}  // namespace ashlar::text
