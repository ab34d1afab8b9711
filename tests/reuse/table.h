#pragma once

// What share of a trace's prompt tokens each geometry finds again, in memory for everything and for
// a quarter of it, beside the reference's rules in as many bytes.

#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "play.h"

namespace ashlar::reuse {

struct Geometry {
  std::string label;
  std::string config;  // of tests/configs
  int32_t ranks = 1;
};
const std::vector<Geometry>& geometries();  // the first keeps every token of every layer

struct PoolResult {
  int32_t grain_tokens = 0;  // of which hits are multiples
  Outcome outcome;
};

struct ReuseRow {
  std::string label;
  bool quarter = false;
  int64_t memory_bytes = 0;
  double ideal = 0;  // ratio
  Outcome ours;
  PoolResult reference;
  std::optional<PoolResult> packed;  // pack 4; where there are states, as the reference has it
};

// Two rows per geometry, everything first.
Result<std::vector<ReuseRow>> reuse_rows();

std::string reuse_markdown(const std::vector<ReuseRow>& rows);

}  // namespace ashlar::reuse
