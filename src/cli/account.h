#pragma once

// The account after an answer: how long, how fast, which bytes, which kernels. As text for people
// and as JSON for programs.

#include <chrono>
#include <string>

#include "base/json.h"
#include "cli/session.h"

namespace ashlar {

class Stopwatch {
 public:
  using Time = std::chrono::steady_clock::time_point;

  double seconds(Time until = std::chrono::steady_clock::now()) const {
    return std::chrono::duration<double>(until - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

struct Timing {
  double load_seconds = 0;
  double first_token_seconds = 0;  // from submit to the first token
  double total_seconds = 0;        // from submit to the last event
};

Json describe(const Timing& timing, const Usage& usage);

// Which body each kind of work got on this machine: [{"work", "layers", "kernel"}].
Json describe_kernels(const Engine& engine);

// A table of at most 100 columns.
std::string account(const Session& session, const Usage& usage, const Timing& timing);

}  // namespace ashlar
