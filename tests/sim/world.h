#pragma once

// A world: sequences that live on one cache, as an engine would treat them, and a device that
// checks every byte they read. Its clock counts operations; nothing in it is random.

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "kv/cache.h"
#include "mixes.h"
#include "trace.h"

namespace ashlar::sim {

class World {
 public:
  explicit World(const Mix& mix);

  // Does it, then audits the cache. Aborts when anything is wrong.
  void apply(const Op& op);

  const Cache& cache() const { return cache_; }
  int64_t n_refused() const { return n_refused_; }
  int64_t n_steps() const { return n_steps_; }

 private:
  enum class State : uint8_t { waiting, idle, reserved, written };
  struct Life {
    std::vector<int32_t> tokens;  // and drafts, while reserved or written
    std::vector<uint64_t> tags;   // of tokens
    std::string salt;
    Tables tables;
    State state = State::waiting;
    int32_t end = 0;  // reserved or written
    int32_t n_drafts = 0;
    int32_t slots = 0;
    int32_t n_known() const { return static_cast<int32_t>(tokens.size()) - n_drafts; }
  };

  Life* pick(uint32_t argument);
  Life* add(std::vector<int32_t> tokens, const std::string& salt);
  void push(Life* life, int32_t token);
  void admit(const Op& op);
  void resume(Life* life);
  void reserve(Life* life, const Op& op);
  bool try_reserve(Life* life, int32_t end, int32_t slots);
  void run();
  void commit(Life* life, const Op& op);
  void fork(const Life& life);
  void stop(Life* life);
  void remove(Life* life);
  void remember_blocks(const Life& life, int32_t end);
  void check_cached() const;
  void audit() const;
  bool stateful() const { return has_states_; }

  Cache cache_;
  bool has_states_ = false;
  std::vector<std::unique_ptr<Life>> lives_;         // in order of admission
  std::deque<std::vector<int32_t>> texts_;           // that new ones may begin with
  std::map<Digest, std::vector<uint64_t>> written_;  // what a node's pages must carry
  int64_t clock_ = 0;
  int64_t n_refused_ = 0;
  int64_t n_steps_ = 0;
  int32_t fresh_ = 1000;  // the next token nobody has used
};

}  // namespace ashlar::sim
