#pragma once

// What this machine can do at best, measured: the roof every bench's figures are a percentage of.
//
// All threads of the pool stream through half a gibibyte (larger than a last-level cache, or most
// of it), then run chains of fused multiply-adds and of bf16 dot products that touch no memory.
// Each takes about 0.2 s and reports its best pass. A shared machine's bandwidth may change from
// minute to minute: measure beside what is compared.

#include "base/pool.h"
#include "kernels/isa.h"
#include "tensor/roof.h"

namespace ashlar {

// Engine thread. REQUIRES that this machine runs `isa`. Where memory is short the buffer is smaller
// (at least 64 MiB, else aborts).
MachineRoof measure_machine_roof(Isa isa, Pool& pool);

// The loops that are timed, for one thread; their results only keep them from being left out.
uint64_t roof_read(Isa isa, const std::byte* data, int64_t bytes);  // bytes: a multiple of 4096
struct RoofFlops {
  double flops;
  float result;
};
RoofFlops roof_fma(Isa isa, int64_t n_steps);
RoofFlops roof_bf16_dot(int64_t n_steps);  // REQUIRES avx512_bf16

}  // namespace ashlar
