#pragma once

// Roof: the least a piece of work must do. Every op states it, so that speed can always be told as
// a percentage of what the machine allows.

#include <algorithm>

namespace ashlar {

// What one call must move through memory (each input read once, each output written once) and
// compute.
struct Roof {
  double bytes = 0;
  double flops = 0;
};

// What a machine was measured to do (kernels/machine_roof.h measures it).
struct MachineRoof {
  double read_bytes_per_s = 0;
  double f32_flops_per_s = 0;   // fused multiply-add
  double bf16_flops_per_s = 0;  // bf16 dot products; equals f32 where the machine has none

  // The shortest possible time for `work`; `bf16` says which unit does the arithmetic.
  double seconds(const Roof& work, bool bf16) const {
    return std::max(work.bytes / read_bytes_per_s,
                    work.flops / (bf16 ? bf16_flops_per_s : f32_flops_per_s));
  }

  // The roof of two measurements: what the machine did once it can do.
  MachineRoof best_of(const MachineRoof& other) const {
    return {.read_bytes_per_s = std::max(read_bytes_per_s, other.read_bytes_per_s),
            .f32_flops_per_s = std::max(f32_flops_per_s, other.f32_flops_per_s),
            .bf16_flops_per_s = std::max(bf16_flops_per_s, other.bf16_flops_per_s)};
  }
};

}  // namespace ashlar
