#include "kv/replay.h"

#include <algorithm>
#include <numeric>

#include "base/checked.h"
#include "kv/replay_tags.h"

namespace ashlar {
namespace {

// Long enough that the arena's slabs are single blocks.
constexpr int64_t kLeastBlockBytes = int64_t{64} << 10;
constexpr int64_t kMaxBlockTokens = int64_t{1} << 16;
constexpr int64_t kMaxBlocks = int64_t{1} << 20;

// The shortest length that all blocks divide.
int64_t common_tokens(const ReplaySession& session) {
  int64_t tokens = 1;
  for (const ReplayGroup& group : session.groups) {
    tokens = std::lcm<int64_t>(tokens, group.block_tokens);
    if (tokens > kMaxBlockTokens) break;
  }
  return tokens;
}

// The tag before a first token. A salt is part of the text, as far as sharing goes.
uint64_t salt_tag(const std::string& salt) {
  uint64_t tag = 0x5EED;
  for (const char c : salt) tag = next_tag(tag, static_cast<unsigned char>(c));
  return tag;
}

CacheGroup token_group(const ReplayGroup& from, int64_t block_bytes) {
  CacheGroup group{.kind = from.kind,
                   .kv_heads = 1,
                   .window = from.window,
                   .chunk = from.chunk,
                   .dtype = DType::bf16};
  const auto elements =
      static_cast<int32_t>(block_bytes / from.block_tokens / size_of(group.dtype));
  group.k_dim = from.kind == LayerKind::latent ? elements : elements / 2;
  group.v_dim = elements - group.k_dim;
  if (from.kind == LayerKind::latent) group.v_dim = 0;
  return group;
}

// The cache's own rule, a state as often as it weighs no more than the tokens between, without the
// floor of real models: here a state weighs a few tokens only.
int32_t state_interval(const std::vector<CacheGroup>& groups) {
  int64_t state = 0, token = 0;
  for (const CacheGroup& group : groups) {
    if (group.has_tokens()) {
      token += group.token_bytes();
    } else {
      state += group.n_layers() * group.page_bytes();
    }
  }
  if (state == 0 || token == 0) return 0;
  return static_cast<int32_t>(round_up(ceil_div(state, token), groups[0].page_tokens));
}

}  // namespace

int64_t replay_block_bytes(const ReplaySession& session) {
  return round_up(kLeastBlockBytes, kGranuleBytes * common_tokens(session));
}

Result<std::vector<CacheGroup>> replay_groups(const ReplaySession& session) {
  if (session.groups.empty()) return invalid("a session without groups");
  int32_t page_tokens = session.match_tokens;
  for (const ReplayGroup& group : session.groups) {
    if (group.block_tokens < 1) {
      return invalid("a group with blocks of {} tokens: at least 1", group.block_tokens);
    }
    page_tokens = std::gcd(page_tokens, group.block_tokens);
  }
  if (common_tokens(session) > kMaxBlockTokens) {
    return unsupported("groups whose blocks have no common length within {} tokens",
                       kMaxBlockTokens);
  }
  std::vector<CacheGroup> groups;
  for (const ReplayGroup& from : session.groups) {
    CacheGroup group;
    if (from.kind == LayerKind::state) {
      group = {.kind = from.kind, .state_bytes = replay_block_bytes(session)};
    } else {
      group = token_group(from, replay_block_bytes(session));
    }
    group.layers = {static_cast<int32_t>(groups.size())};
    group.page_tokens = page_tokens;
    groups.push_back(std::move(group));
  }
  return groups;
}

Result<Replay> Replay::create(const ReplaySession& session) {
  TRY(std::vector<CacheGroup> groups, replay_groups(session));
  if (session.n_blocks < 1 || session.n_blocks > kMaxBlocks) {
    return invalid("a pool of {} blocks: 1 to {}", session.n_blocks, kMaxBlocks);
  }
  const int64_t block_bytes = replay_block_bytes(session);
  const CacheOptions options = {.snapshot_interval = state_interval(groups)};
  TRY(Cache cache, Cache::create(std::move(groups), session.n_blocks * block_bytes, options));
  CHECK(cache.arena().layout().slab_bytes == block_bytes, "a slab is not one block");
  return Replay(std::move(cache), session);
}

Replay::Replay(Cache cache, const ReplaySession& session)
    : cache_(std::move(cache)), max_tokens_(session.max_tokens) {
  cache_.poison_freed_pages(true);
}

const Tables* Replay::tables(const std::string& request) const {
  const auto found = requests_.find(request);
  return found == requests_.end() ? nullptr : &found->second.tables;
}

Result<Replay::Request*> Replay::request(const ReplayOp& op) {
  const auto found = requests_.find(op.request);
  if (found == requests_.end()) {
    return invalid("request \"{}\" has not begun, or is gone", excerpt(op.request));
  }
  return &found->second;
}

Status Replay::apply(const ReplayOp& op) {
  ++op_;
  if (op.verb == ReplayVerb::other) return {};
  if (op.verb == ReplayVerb::begin) {
    const auto [place, fresh] = requests_.try_emplace(op.request);
    if (!fresh) return invalid("request \"{}\" begins twice", excerpt(op.request));
    Request& request = place->second;
    request.salt = op.salt;
    request.first_tag = salt_tag(op.salt);
    push(&request, op.tokens);
    return {};
  }
  TRY(Request * request, this->request(op));
  switch (op.verb) {
    case ReplayVerb::lookup: look_up(request, op.hit); break;
    case ReplayVerb::compute: return compute(request, op);
    case ReplayVerb::append: push(request, op.tokens); break;
    default: cache_.release(&request->tables); requests_.erase(op.request);
  }
  return {};
}

void Replay::push(Request* request, const std::vector<int32_t>& tokens) {
  for (const int32_t token : tokens) {
    const uint64_t before = request->tags.empty() ? request->first_tag : request->tags.back();
    request->tokens.push_back(token);
    request->tags.push_back(next_tag(before, token));
  }
}

void Replay::look_up(Request* request, int32_t reference) {
  cache_.release(&request->tables);  // of a lookup that came to nothing
  const int32_t hit =
      cache_.match(&request->tables,
                   {.tokens = request->tokens, .salt = request->salt, .adapter = {}, .marks = {}});
  request->matched = true;
  request->reference_hit = reference;
  result_.lookups.push_back({.op = op_, .hit = hit, .reference = reference});
  if (hit < reference) result_.lookups.back().cause = why_short(*request, reference);
  cache_.run_copies();
  check(*request);
}

void Replay::check(const Request& request) {
  const std::string wrong =
      check_tags(cache_, request.tables, request.tags, request.tables.n_tokens);
  if (!wrong.empty()) result_.invalid.push_back({op_, wrong});
}

// The session decides who computes how much and when; where it had no room, nothing is done here
// either. What it computes in one chunk takes several of our steps where we found less, so that no
// step is longer than the session's, and where the cache asks to stop.
Status Replay::compute(Request* request, const ReplayOp& op) {
  if (!op.granted) return {};
  const int32_t n_hit = op.use_hit ? request->reference_hit : 0;
  if (op.n_new < 0 || op.n_new > max_tokens_ - request->reference_computed - n_hit) {
    return invalid("{} tokens after {}: at most {} in all", op.n_new,
                   request->reference_computed + n_hit, max_tokens_);
  }
  request->reference_computed += n_hit + op.n_new;
  request->reference_hit = 0;
  const auto n_known = static_cast<int32_t>(request->tokens.size());
  const int32_t end = std::min(request->reference_computed, n_known);
  const int32_t reserved =
      std::min<int64_t>(int64_t{request->reference_computed} + op.lookahead, max_tokens_);
  if (!request->matched) {  // refused before, as if preempted; or it never looked up
    cache_.match(&request->tables,
                 {.tokens = request->tokens, .salt = request->salt, .adapter = {}, .marks = {}});
    request->matched = true;
  }
  if (advance(request, end, reserved, std::max(op.n_new, cache_.groups()[0].page_tokens)))
    return {};
  result_.refused.push_back({op_, fmt::format("no room for {} tokens", reserved)});
  cache_.release(&request->tables);
  request->matched = false;
  return {};
}

bool Replay::advance(Request* request, int32_t end, int32_t reserved, int32_t step_tokens) {
  Tables* tables = &request->tables;
  while (tables->n_tokens < end) {
    const int32_t step_end =
        std::min({end, tables->n_tokens + step_tokens, cache_.next_stop(*tables)});
    if (!cache_.reserve(tables, step_end == end ? reserved : step_end)) return false;
    write_step(request, step_end);
  }
  return true;
}

void Replay::write_step(Request* request, int32_t end) {
  Tables* tables = &request->tables;
  cache_.run_copies();
  check(*request);
  write_tags(cache_, *tables, request->tags, tables->n_tokens, end);
  cache_.commit(tables, end, request->tokens);
}

// What a resume where the session's cache resumed would have needed and was not there.
std::string Replay::why_short(const Request& request, int32_t reference) const {
  const int32_t page_tokens = cache_.groups()[0].page_tokens;
  const int32_t boundary = reference - reference % page_tokens;
  const PrefixIndex& index = cache_.index();
  PrefixIndex keys(1, false, 0);
  Digest key = keys.root(request.salt, {});
  std::vector<NodeId> nodes;
  for (int32_t t = 0; t < boundary; t += page_tokens) {
    key =
        keys.next_key(key, std::span(request.tokens)
                               .subspan(static_cast<size_t>(t), static_cast<size_t>(page_tokens)));
    nodes.push_back(index.find(key));
    if (nodes.back() == kNoNode) return fmt::format("never_seen from token {} on", t);
  }
  size_t column = 0;
  for (size_t g = 0; g < cache_.groups().size(); ++g) {
    if (!cache_.groups()[g].has_tokens()) continue;
    const BlockRange blocks = resume_blocks(cache_.groups()[g], boundary);
    for (int32_t b = blocks.first; b < blocks.last; ++b) {
      if (index.entry(nodes[static_cast<size_t>(b)], column).page == kNoPage)
        return fmt::format("evicted: group {} ({}) lacks tokens {} to {}", g,
                           name(cache_.groups()[g].kind), b * page_tokens, (b + 1) * page_tokens);
    }
    ++column;
  }
  if (index.n_columns() > index.n_token_columns() && !nodes.empty() &&
      index.entry(nodes.back(), index.snapshots()).page == kNoPage) {
    return fmt::format("no_state at {}", boundary);
  }
  return fmt::format("page rounding: {} is no multiple of {}", reference, page_tokens);
}

Result<ReplayResult> replay(const ReplaySession& session) {
  TRY(Replay replay, Replay::create(session));
  for (size_t i = 0; i < session.ops.size(); ++i) {
    if (const Status done = replay.apply(session.ops[i]); !done)
      return error(done.error().code, "op {}: {}", i, done.error().text);
  }
  return replay.result();
}

}  // namespace ashlar
