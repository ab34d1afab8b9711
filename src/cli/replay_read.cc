#include "cli/replay_read.h"

#include <algorithm>
#include <array>
#include <climits>

namespace ashlar {
namespace {

constexpr int64_t kMaxTokens = int64_t{1} << 22;  // of one request
constexpr int64_t kMaxBlockTokens = int64_t{1} << 16;

constexpr std::array<std::pair<const char*, LayerKind>, 5> kKinds = {{
    {"full", LayerKind::full},
    {"mla", LayerKind::latent},
    {"swa", LayerKind::window},
    {"chunk", LayerKind::chunk},
    {"mamba", LayerKind::state},
}};
constexpr std::array<std::pair<const char*, ReplayVerb>, 10> kVerbs = {{
    {"new", ReplayVerb::begin},
    {"lookup", ReplayVerb::lookup},
    {"alloc", ReplayVerb::compute},
    {"append", ReplayVerb::append},
    {"free", ReplayVerb::release},
    {"drop", ReplayVerb::release},
    {"step", ReplayVerb::other},
    {"split", ReplayVerb::other},
    {"free_retained", ReplayVerb::other},
    {"dump_cached", ReplayVerb::other},
}};

Result<const Json*> member(const Json& json, std::string_view key) {
  const Json* value = json.find(key);
  if (value == nullptr) return invalid("\"{}\" is missing", key);
  return value;
}

Result<int64_t> integer_of(const Json& value, std::string_view what, int64_t low, int64_t high) {
  if (!value.is_int()) return invalid("{} is no integer but {}", what, value.kind());
  if (value.as_int() < low || value.as_int() > high) {
    return invalid("{} is {}, outside {} to {}", what, value.as_int(), low, high);
  }
  return value.as_int();
}

Result<int32_t> integer(const Json& json, std::string_view key, int64_t low, int64_t high) {
  TRY(const Json* value, member(json, key));
  TRY(const int64_t number, integer_of(*value, fmt::format("\"{}\"", key), low, high));
  return static_cast<int32_t>(number);
}

Result<std::string> text(const Json& json, std::string_view key) {
  TRY(const Json* value, member(json, key));
  if (!value->is_string()) return invalid("\"{}\" is no string but {}", key, value->kind());
  return value->as_string();
}

Result<const Json::Array*> array(const Json& json, std::string_view key) {
  TRY(const Json* value, member(json, key));
  if (!value->is_array()) return invalid("\"{}\" is no list but {}", key, value->kind());
  return &value->as_array();
}

template <class Rows>
std::string names(const Rows& rows) {
  std::string all;
  for (const auto& row : rows) all += (all.empty() ? "" : ", ") + std::string(row.first);
  return all;
}

template <class Rows>
auto one_of(const Rows& rows, const Json& json, std::string_view key)
    -> Result<decltype(rows[0].second)> {
  TRY(const std::string word, text(json, key));
  for (const auto& [name, value] : rows) {
    if (word == name) return value;
  }
  return invalid("\"{}\" is \"{}\", none of {}", key, excerpt(word), names(rows));
}

Result<ReplayGroup> read_group(const Json& json) {
  ReplayGroup group;
  TRY(group.kind, one_of(kKinds, json, "kind"));
  TRY(group.block_tokens, integer(json, "block_size", 1, kMaxBlockTokens));
  if (group.kind == LayerKind::window) {
    TRY(group.window, integer(json, "window", 1, INT32_MAX));
  }
  if (group.kind == LayerKind::chunk) {
    TRY(group.chunk, integer(json, "chunk", 1, INT32_MAX));
  }
  return group;
}

Result<std::vector<int32_t>> read_prompt(const Json& op) {
  TRY(const Json::Array* segments, array(op, "prompt"));
  std::vector<int32_t> tokens;
  for (const Json& segment : *segments) {
    if (!segment.is_array() || segment.as_array().size() != 2)
      return invalid("\"prompt\" has {}, which is no [k, n]", excerpt(segment.dump()));
    const Json::Array& pair = segment.as_array();
    TRY(const int64_t k, integer_of(pair[0], "a prompt's k", 0, (INT32_MAX - kMaxTokens) / 1000));
    TRY(const int64_t n, integer_of(pair[1], "a prompt's n", 0, kMaxTokens));
    if (static_cast<int64_t>(tokens.size()) + n > kMaxTokens)
      return invalid("\"prompt\" is longer than {} tokens", kMaxTokens);
    for (int64_t i = 0; i < n; ++i) tokens.push_back(static_cast<int32_t>(k * 1000 + i));
  }
  if (tokens.empty()) return invalid("\"prompt\" has no tokens");
  return tokens;
}

Result<std::vector<int32_t>> read_tokens(const Json& op) {
  TRY(const Json::Array* list, array(op, "tokens"));
  std::vector<int32_t> tokens;
  for (const Json& token : *list) {
    TRY(const int64_t id, integer_of(token, "a token", 0, INT32_MAX));
    tokens.push_back(static_cast<int32_t>(id));
  }
  return tokens;
}

Status read_compute(const Json& json, ReplayOp* op) {
  TRY(op->n_new, integer(json, "num_new", 0, kMaxTokens));
  if (json.find("lookahead")) {
    TRY(op->lookahead, integer(json, "lookahead", 0, kMaxTokens));
  }
  if (const Json* flag = json.find("use_hit")) {
    if (!flag->is_bool()) return invalid("\"use_hit\" is no boolean but {}", flag->kind());
    op->use_hit = flag->as_bool();
  }
  TRY(const Json* expect, member(json, "expect"));
  if (!expect->is_null() && !expect->is_object())
    return invalid("\"expect\" is neither null nor an object but {}", expect->kind());
  op->granted = !expect->is_null();
  return {};
}

Result<ReplayOp> read_op(const Json& json) {
  ReplayOp op;
  TRY(op.verb, one_of(kVerbs, json, "op"));
  if (op.verb == ReplayVerb::other) return op;
  TRY(op.request, text(json, "req"));
  switch (op.verb) {
    case ReplayVerb::begin: {
      TRY(op.tokens, read_prompt(json));
      const Json* salt = json.find("salt");
      if (salt != nullptr && !salt->is_null()) {
        TRY(op.salt, text(json, "salt"));
      }
      break;
    }
    case ReplayVerb::lookup: {
      TRY(const Json* expect, member(json, "expect"));
      TRY(op.hit, integer(*expect, "hit", 0, kMaxTokens));
      break;
    }
    case ReplayVerb::compute: {
      TRY_STATUS(read_compute(json, &op));
      break;
    }
    case ReplayVerb::append: {
      TRY(op.tokens, read_tokens(json));
      break;
    }
    default: break;
  }
  return op;
}

// "full_swa" of "full_swa_12".
std::string family_of(const std::string& name) {
  const size_t digits = name.find_last_not_of("0123456789");
  if (digits == std::string::npos || digits + 1 == name.size() || name[digits] != '_') return name;
  return name.substr(0, digits);
}

Status read_config(const Json& config, ReplaySession* session) {
  TRY(const Json::Array* groups, array(config, "groups"));
  for (size_t g = 0; g < groups->size(); ++g) {
    auto group = read_group((*groups)[g]);
    if (!group) return invalid("group {}: {}", g, group.error().text);
    session->groups.push_back(*group);
  }
  if (session->groups.empty()) return invalid("\"groups\" is empty");
  TRY(const int32_t n_blocks, integer(config, "num_blocks", 2, INT32_MAX));
  session->n_blocks = n_blocks - 1;
  TRY(session->match_tokens, integer(config, "hash_block_size", 1, kMaxBlockTokens));
  TRY(session->max_tokens, integer(config, "max_model_len", 1, kMaxTokens));
  if (config.find("family")) {
    TRY(session->family, text(config, "family"));
  }
  return {};
}

}  // namespace

Result<ReplaySession> read_session(const Json& line) {
  ReplaySession session;
  TRY(session.name, text(line, "name"));
  session.family = family_of(session.name);
  TRY(const Json* config, member(line, "config"));
  if (const Status ok = read_config(*config, &session); !ok)
    return invalid("config: {}", ok.error().text);
  TRY(const Json::Array* ops, array(line, "ops"));
  for (size_t i = 0; i < ops->size(); ++i) {
    auto op = read_op((*ops)[i]);
    if (!op) return invalid("op {}: {}", i, op.error().text);
    session.ops.push_back(*std::move(op));
  }
  return session;
}

}  // namespace ashlar
