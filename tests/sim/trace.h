#pragma once

// A trace: what happens to a cache, as text. Every operation means something in every state (what
// it names is taken modulo what there is, and what cannot be done is not), so that any part of a
// trace is a trace.
//
//   mix full+window/16
//   admit 3 17 40 1
//   reserve 0 12 0
//   run
//   ...

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "base/result.h"

namespace ashlar::sim {

enum class Verb : uint8_t {
  admit,     // text it begins with, tokens of that, tokens of its own, salt
  resume,    // sequence
  reserve,   // sequence, tokens, drafts, whether to pass stops
  run,       // the device: copies, then every reserved sequence's reads and writes
  commit,    // sequence, drafts accepted, by crop, next token
  crop,      // sequence: what it reserved and did not write
  fork,      // sequence
  snapshot,  // sequence
  preempt,   // sequence
  finish,    // sequence: its text may be continued by others
  cancel,    // sequence, in any state
  refuse,    // n: the n-th demand for pages from here finds none
};
constexpr int kVerbs = 12;

struct Op {
  Verb verb = Verb::run;
  uint32_t arguments[4] = {};
};

struct Trace {
  std::string mix;
  std::vector<Op> ops;
};

std::string print(const Trace& trace);
Result<Trace> parse_trace(const std::string& text);

// The next operation of a random life. Steps come in rounds: reserve some, run, commit all.
Op random_op(std::mt19937& random);

}  // namespace ashlar::sim
