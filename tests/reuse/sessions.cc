#include "sessions.h"

#include <algorithm>
#include <array>
#include <random>

#include "base/check.h"
#include "pool_cache.h"

namespace ashlar::reuse {
namespace {

constexpr int32_t kMaxTokens = 256;  // of one request
constexpr size_t kMaxLive = 3;

struct Family {
  const char* name;
  std::vector<ReplayGroup> groups;
  std::vector<int32_t> windows = {};  // one of them for every window group; none: theirs
};

const std::vector<Family>& families() {
  using enum LayerKind;
  constexpr ReplayGroup whole = {.kind = full, .block_tokens = 4};
  constexpr ReplayGroup sliding = {.kind = window, .block_tokens = 4, .window = 8};
  constexpr ReplayGroup states = {.kind = state, .block_tokens = 4};
  constexpr ReplayGroup wide = {.kind = window, .block_tokens = 4, .window = 20};
  constexpr ReplayGroup whole_8 = {.kind = full, .block_tokens = 8};
  constexpr ReplayGroup sliding_8 = {.kind = window, .block_tokens = 8, .window = 16};
  static const std::vector<Family> all = {{"full", {whole}},
                                          {"full_swa", {whole, sliding}, {4, 8, 9, 12, 16}},
                                          {"swa_full", {sliding, whole}, {4, 8, 12}},
                                          {"full_2swa", {whole, sliding, sliding}},
                                          {"full_swa_two_windows", {whole, sliding, wide}},
                                          {"full8_swa4", {whole_8, sliding}, {4, 8, 12}},
                                          {"full4_swa8", {whole, sliding_8}, {8, 16}},
                                          {"swa_only", {sliding}, {4, 7, 8, 12}},
                                          {"full_mamba", {whole, states}},
                                          {"full_2mamba", {whole, states, states}},
                                          {"full_swa_mamba", {whole, sliding, states}}};
  return all;
}

PoolOptions pool_options(const ReplaySession& session) {
  PoolOptions options;
  options.n_blocks = session.n_blocks + 1;
  options.max_model_len = options.max_in_flight = session.max_tokens;
  options.hash_tokens = session.match_tokens;
  options.schedule_tokens = 0;
  for (const ReplayGroup& group : session.groups) {
    options.groups.push_back({.kind = group.kind == LayerKind::window  ? UniformKind::window
                                      : group.kind == LayerKind::state ? UniformKind::state
                                                                       : UniformKind::full,
                              .block_tokens = group.block_tokens,
                              .window = group.window});
    options.schedule_tokens = std::max(options.schedule_tokens, group.block_tokens);
  }
  return options;
}

class Draw {
 public:
  Draw(ReplaySession session, uint32_t seed)
      : session_(std::move(session)), random_(seed), cache_(pool_options(session_)) {
    lengths_ = {between(1, 20), between(3, 30), between(8, 59), between(5, 40)};
  }

  ReplaySession play() {
    for (int32_t left = between(10, 26); left > 0; --left) step();
    return std::move(session_);
  }

 private:
  struct Live {
    std::string name;
    PoolRequest request;
  };

  int32_t between(int32_t low, int32_t high) {
    return low + static_cast<int32_t>(random_() % static_cast<uint32_t>(high - low + 1));
  }
  bool one_in(double n) { return random_() * n < 4294967296.0; }

  // One of four texts, every other time with a tail of its own.
  std::vector<int32_t> prompt() {
    std::vector<int32_t> tokens;
    const auto add = [&](int32_t k, int32_t n) {
      for (int32_t i = 0; i < n; ++i) tokens.push_back(k * 1000 + i);
    };
    const int32_t text = between(0, 3);
    if (text == 0) add(1, 24), add(4, lengths_[0]);
    if (text == 1) add(1, 12), add(2, lengths_[1]);
    if (text == 2) add(3, lengths_[2]);
    if (text == 3) add(1, lengths_[3]);
    if (one_in(2)) add(11 + n_begun_, between(1, 24));
    return tokens;
  }

  void step() {
    cache_.begin_step();
    if (live_.empty() || (live_.size() < kMaxLive && one_in(1.75))) return begin();
    proceed(static_cast<size_t>(between(0, static_cast<int32_t>(live_.size()) - 1)));
  }

  void begin() {
    Live live = {"r" + std::to_string(n_begun_), cache_.add(prompt())};
    ++n_begun_;
    session_.ops.push_back(
        {.verb = ReplayVerb::begin, .request = live.name, .tokens = live.request.tokens});
    cache_.look_up(&live.request);
    session_.ops.push_back(
        {.verb = ReplayVerb::lookup, .request = live.name, .hit = live.request.hit.n_tokens});
    live_.push_back(std::move(live));
    if (!compute(live_.size() - 1, true) || one_in(2.5)) release(live_.size() - 1);
  }

  void proceed(size_t at) {
    PoolRequest* request = &live_[at].request;
    if (request->n_computed >= static_cast<int32_t>(request->tokens.size())) {
      const std::vector<int32_t> token = {500000 + between(0, 3)};
      cache_.append(request, token);
      session_.ops.push_back(
          {.verb = ReplayVerb::append, .request = live_[at].name, .tokens = token});
    }
    if (!compute(at, false) || one_in(2.5)) release(at);
  }

  bool compute(size_t at, bool first) {
    constexpr std::array<int32_t, 8> kChunks = {8, 16, 32, 32, 256, 256, 256, 256};
    PoolRequest* request = &live_[at].request;
    const int32_t rest = static_cast<int32_t>(request->tokens.size()) - request->n_computed -
                         (first ? request->hit.n_tokens : 0);
    const int32_t n = cache_.split(*request, std::min(rest, kChunks[random_() % kChunks.size()]));
    if (n == 0) return true;
    const int32_t lookahead = first && one_in(5) ? 2 : 0;
    const bool granted = cache_.allocate(request, n, lookahead, first && one_in(4));
    session_.ops.push_back({.verb = ReplayVerb::compute,
                            .request = live_[at].name,
                            .granted = granted,
                            .use_hit = first,
                            .n_new = n,
                            .lookahead = lookahead});
    return granted;
  }

  void release(size_t at) {
    session_.ops.push_back({.verb = ReplayVerb::release, .request = live_[at].name});
    cache_.free(&live_[at].request);
    live_.erase(live_.begin() + static_cast<int64_t>(at));
  }

  ReplaySession session_;
  std::mt19937 random_;
  PoolCache cache_;
  std::array<int32_t, 4> lengths_;
  std::vector<Live> live_;
  int32_t n_begun_ = 0;
};

}  // namespace

std::vector<std::string> session_families() {
  std::vector<std::string> names;
  for (const Family& family : families()) names.push_back(family.name);
  return names;
}

ReplaySession draw_session(const std::string& family, uint32_t seed) {
  const auto found = std::find_if(families().begin(), families().end(),
                                  [&](const Family& f) { return f.name == family; });
  CHECK(found != families().end(), "no family {}", family);
  std::mt19937 random(seed);
  ReplaySession session = {.name = family + "_" + std::to_string(seed),
                           .family = family,
                           .groups = found->groups,
                           .match_tokens = 4,
                           .max_tokens = kMaxTokens};
  constexpr std::array<int32_t, 4> kPools = {14, 22, 40, 80};
  session.n_blocks = kPools[random() % kPools.size()] * std::ssize(session.groups) - 1;
  for (ReplayGroup& group : session.groups) {
    if (group.kind == LayerKind::window && !found->windows.empty())
      group.window = found->windows[random() % found->windows.size()];
  }
  return Draw(std::move(session), random()).play();
}

SessionTotals play_sessions(const std::string& family, uint32_t first_seed, uint32_t n) {
  SessionTotals totals;
  for (uint32_t seed = first_seed; seed < first_seed + n; ++seed) {
    const auto result = replay(draw_session(family, seed));
    CHECK(result.has_value(), "{} {}: {}", family, seed, result.error().text);
    for (const ReplayLookup& lookup : result->lookups) {
      totals.hit += lookup.hit;
      totals.reference += lookup.reference;
      totals.n_losses += lookup.hit < lookup.reference;
    }
    totals.n_invalid += std::ssize(result->invalid);
    totals.n_refused += std::ssize(result->refused);
  }
  return totals;
}

}  // namespace ashlar::reuse
