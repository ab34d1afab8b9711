#pragma once

// Replay: a recorded session of prefix-cache requests, played on our cache.
//
// A session is what another engine's scheduler did with its own cache: requests arrive, look their
// prompt up, are computed in chunks, generate, leave. Its pool is one row of equal blocks that any
// layer group takes from. Replay gives our cache the same bytes for the same tokens, follows the
// session's decisions and notes what our lookups find beside what the session's found.
//
// No model computes: each token's slot in a page, and each state, carries a tag of all the tokens
// up to it, so that a page that is not what a resume or a step must read is told from one that is.

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "kv/cache.h"

namespace ashlar {

struct ReplayGroup {
  LayerKind kind = LayerKind::full;
  int32_t block_tokens = 16;  // tokens per block of the session's pool; a state takes one block
  int32_t window = 0;
  int32_t chunk = 0;
};

enum class ReplayVerb : uint8_t { begin, lookup, compute, append, release, other };

struct ReplayOp {
  ReplayVerb verb = ReplayVerb::other;
  std::string request = {};
  std::vector<int32_t> tokens = {};  // begin: the prompt; append: what was generated
  std::string salt = {};             // begin
  int32_t hit = 0;                   // lookup: what the session's cache found
  bool granted = true;               // compute: the session had room
  bool use_hit = false;              // compute: from the lookup's hit on
  int32_t n_new = 0;                 // compute: tokens, and how many more have room beside them
  int32_t lookahead = 0;
};

struct ReplaySession {
  std::string name = {};
  std::string family = {};
  std::vector<ReplayGroup> groups = {};
  int64_t n_blocks = 0;      // that hold tokens or states
  int32_t match_tokens = 0;  // the unit of the session's lookups, for every group
  int32_t max_tokens = 0;    // of one request
  std::vector<ReplayOp> ops = {};
};

struct ReplayLookup {
  int32_t op = 0;  // index in the session
  int32_t hit = 0;
  int32_t reference = 0;
  std::string cause = {};  // where hit < reference: why
};

// Something that must not happen.
struct ReplayFault {
  int32_t op = 0;
  std::string text = {};
};

struct ReplayResult {
  std::vector<ReplayLookup> lookups = {};
  std::vector<ReplayFault> invalid = {};  // a resume or a step would read what is not its text's
  std::vector<ReplayFault> refused = {};  // the session had room, we had not
};

// The session's pool as ours: n_blocks slabs, each a page of the longest block. All groups share
// one page length, the largest that divides every block and the session's unit of lookups, so a
// group of longer blocks has pages of a part of a slab: bytes per token and in all are the
// session's. invalid for groups that cannot be laid out.
Result<std::vector<CacheGroup>> replay_groups(const ReplaySession& session);
int64_t replay_block_bytes(const ReplaySession& session);

class Replay {
 public:
  static Result<Replay> create(const ReplaySession& session);

  // Plays the session's next op. invalid when it does not follow from those before it.
  Status apply(const ReplayOp& op);

  const ReplayResult& result() const { return result_; }
  const Cache& cache() const { return cache_; }
  const Tables* tables(const std::string& request) const;

 private:
  struct Request {
    std::vector<int32_t> tokens;
    std::vector<uint64_t> tags;  // by token, of it and all before it
    uint64_t first_tag = 0;
    std::string salt;
    Tables tables;
    int32_t reference_hit = 0;       // of a lookup that no compute has used
    int32_t reference_computed = 0;  // tokens that the session has
    bool matched = false;
  };

  Replay(Cache cache, const ReplaySession& session);

  Result<Request*> request(const ReplayOp& op);
  void push(Request* request, const std::vector<int32_t>& tokens);
  void look_up(Request* request, int32_t reference);
  Status compute(Request* request, const ReplayOp& op);
  bool advance(Request* request, int32_t end, int32_t reserved, int32_t step_tokens);
  void write_step(Request* request, int32_t end);
  void check(const Request& request);
  std::string why_short(const Request& request, int32_t reference) const;

  Cache cache_;
  int32_t max_tokens_;
  int32_t op_ = -1;
  std::map<std::string, Request> requests_;
  ReplayResult result_;
};

// All of it.
Result<ReplayResult> replay(const ReplaySession& session);

}  // namespace ashlar
