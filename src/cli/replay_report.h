#pragma once

// What a file of sessions gave: totals by family, and the lookups that found less than recorded.

#include <string>
#include <vector>

#include "base/result.h"
#include "kv/replay.h"

namespace ashlar {

struct ReplayTotals {
  std::string family = {};
  int64_t lookups = 0;
  int64_t hit = 0;  // tokens
  int64_t reference = 0;
  int64_t losses = 0;  // lookups that found less
  int64_t refused = 0;
  int64_t invalid = 0;
};

struct PlayedSession {
  std::string name = {};
  std::string family = {};
  ReplayResult result = {};
};

struct ReplayReport {
  std::vector<PlayedSession> sessions = {};  // in the file's order
  std::vector<ReplayTotals> families() const;
  ReplayTotals all() const;
};

// Errors name file and line.
Result<ReplayReport> replay_sessions(const std::string& path);

std::string replay_json(const ReplayReport& report);
std::string replay_table(const ReplayReport& report);

}  // namespace ashlar
