#pragma once

// Plays a trace on a cache as an engine would: requests start in order of arrival, several run at
// once, each takes a chunk of its prompt or a page of its answer in turn, and who finds no room
// takes it from the one that started last. A conversation's next turn waits for the one before.

#include <cstdint>
#include <optional>
#include <span>

#include "trace.h"

namespace ashlar::reuse {

constexpr int32_t kPageTokens = 16;
constexpr int32_t kStepTokens = 4096;  // the most of a prompt computed at once
constexpr size_t kMaxRunning = 8;

// A cache in play. `slot` is below kMaxRunning.
class Player {
 public:
  struct Start {
    int32_t n_found = 0;
    int32_t n_computed = 0;
  };

  virtual ~Player() = default;
  virtual void begin_step() {}
  // Finds what it has of the tokens and computes a first chunk. Nothing when there is no room.
  virtual std::optional<Start> begin(size_t slot, std::span<const int32_t> tokens,
                                     std::span<const int32_t> marks) = 0;
  // Computes on, to `end` or less; how many tokens are computed then. Nothing when there is no
  // room.
  virtual std::optional<int32_t> step(size_t slot, std::span<const int32_t> tokens,
                                      int32_t end) = 0;
  virtual void end(size_t slot) = 0;
};

struct Outcome {
  int64_t prompt_tokens = 0;
  int64_t found_tokens = 0;
  int64_t n_preempted = 0;
  double ratio() const {
    return static_cast<double>(found_tokens) / static_cast<double>(prompt_tokens);
  }
};

Outcome play(const std::vector<Request>& trace, Player* player);

}  // namespace ashlar::reuse
