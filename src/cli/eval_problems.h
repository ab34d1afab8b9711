#pragma once

// Problems with known answers: read, answered greedily, compared.

#include <string>
#include <vector>

#include "cli/session.h"

namespace ashlar {

struct ProblemFlags {
  std::string data;
  bool raw = false;
  int32_t max_tokens = 256;
  int64_t limit = -1;
};

struct Problem {
  text::ChatTokens prompt;
  std::string answer;
  std::vector<int32_t> tokens;  // generated
  std::string text;
  bool correct = false;
};

// One for each line; invalid names the line.
Result<std::vector<Problem>> read_problems(const Session& session, const std::vector<Json>& lines,
                                           bool raw);

// Fills what was generated. `sink` must outlive the session: requests that an error leaves behind
// end in it. REQUIRES a started engine.
Status answer_problems(Session& session, int32_t max_tokens, Queue<Event>* sink,
                       std::vector<Problem>* problems);

}  // namespace ashlar
