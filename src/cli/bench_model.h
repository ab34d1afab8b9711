#pragma once

// What the two ways to bench a whole model share.

#include <optional>
#include <vector>

#include "base/result.h"
#include "cli/options.h"
#include "kernels/isa.h"

namespace ashlar {

struct BenchModelFlags {
  ModelFlags model;
  int32_t prompt = 128;
  int32_t generate = 32;
  int32_t batch = 1;
  std::optional<double> acceptance;  // share of proposals that are made right; see Rehearsal
};

// A prompt that depends on its arguments alone.
std::vector<int32_t> some_tokens(int64_t n, int32_t vocab, uint64_t seed);

// The same requests without the draft and with it, by turns, and what it saved. REQUIRES
// flags.acceptance, and room in a step for all prompts. invalid without a draft.
Status bench_acceptance(const BenchModelFlags& flags, Isa isa);

}  // namespace ashlar
