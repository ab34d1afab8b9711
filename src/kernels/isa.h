#pragma once

// The instruction sets a CPU body can be written for, worst first. A set is chosen per call table
// (ops.h), never per process: two engines may run different sets, and a test can compare all of
// them.

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace ashlar {

enum class Isa : uint8_t {
  baseline,     // what every x86-64 has
  avx2,         // AVX2 + FMA
  avx512,       // AVX-512 F, BW, CD, DQ, VL
  avx512_bf16,  // the same with bf16 dot products and VBMI (Cooper Lake lacks that: avx512)
};

const char* name(Isa isa);

// The best set of this machine, and all sets it can run (worst first, best last).
Isa best_isa();
std::vector<Isa> available_isas();

// "baseline", "avx2", "avx512", "avx512_bf16"; unsupported when this machine lacks it.
Result<Isa> parse_isa(std::string_view text);

}  // namespace ashlar
