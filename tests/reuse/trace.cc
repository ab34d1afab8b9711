#include "trace.h"

#include <algorithm>
#include <map>
#include <unordered_set>

#include "base/file.h"
#include "base/json.h"
#include "prefix_hash.h"

namespace ashlar::reuse {
namespace {

struct Conversation {
  std::vector<int32_t> tokens;  // everything said
  std::vector<int32_t> ends;    // of its messages
};

// `text` tells system prompts (negative) from conversations.
void say(Conversation* said, int64_t text, int32_t n_tokens) {
  const auto message = static_cast<int64_t>(said->ends.size());
  for (int32_t i = 0; i < n_tokens; ++i) {
    const uint64_t place = next_hash(next_hash(static_cast<uint64_t>(text), message), i);
    said->tokens.push_back(static_cast<int32_t>(place >> 33));
  }
  said->ends.push_back(static_cast<int32_t>(said->tokens.size()));
}

Result<int32_t> integer(const Json& line, const char* key, size_t at) {
  const Json* value = line.find(key);
  if (value == nullptr || !value->is_int() || value->as_int() < 0 || value->as_int() > 1 << 20) {
    return invalid("trace line {}: {}: expected a count up to {}", at, key, 1 << 20);
  }
  return static_cast<int32_t>(value->as_int());
}

Result<Request> read_request(const Json& line, size_t at,
                             std::map<int32_t, Conversation>* conversations) {
  Request request;
  TRY(request.conversation, integer(line, "conversation", at));
  TRY(const int32_t system, integer(line, "system", at));
  TRY(const int32_t system_tokens, integer(line, "system_tokens", at));
  TRY(const int32_t user_tokens, integer(line, "user_tokens", at));
  TRY(const int32_t answer_tokens, integer(line, "answer_tokens", at));
  Conversation& said = (*conversations)[request.conversation];
  if (said.tokens.empty()) say(&said, -1 - int64_t{system}, system_tokens);
  say(&said, request.conversation, user_tokens);
  request.n_prompt = said.ends.back();
  request.marks = said.ends;
  say(&said, request.conversation, answer_tokens);
  request.tokens = said.tokens;
  return request;
}

}  // namespace

Result<std::vector<Request>> read_trace(const std::string& path) {
  TRY(const std::string text, read_file(path));
  std::vector<Request> trace;
  std::map<int32_t, Conversation> conversations;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    TRY(const Json line, parse_json(std::string_view(text).substr(begin, end - begin), path));
    TRY(Request request, read_request(line, trace.size() + 1, &conversations));
    trace.push_back(std::move(request));
    begin = end + 1;
  }
  return trace;
}

std::vector<int32_t> known_tokens(const std::vector<Request>& trace, int32_t page_tokens) {
  std::vector<int32_t> known;
  std::unordered_set<uint64_t> computed;
  for (const Request& request : trace) {
    const std::vector<uint64_t> hashes = prefix_hashes(request.tokens, page_tokens);
    const auto n_prompt = static_cast<size_t>((request.n_prompt - 1) / page_tokens);
    size_t n = 0;
    while (n < n_prompt && computed.count(hashes[n]) > 0) ++n;
    known.push_back(static_cast<int32_t>(n) * page_tokens);
    computed.insert(hashes.begin(), hashes.begin() + request.n_computed() / page_tokens);
  }
  return known;
}

}  // namespace ashlar::reuse
