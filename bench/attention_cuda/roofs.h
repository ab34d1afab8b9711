#pragma once

// What this card does at best, measured beside the cases: the larger of the two least times is a
// case's roof.

#include "tensor/roof.h"

namespace ashlar::bench {

struct CardRoof {
  double read_bytes_per_s = 0;    // plain reads of four gibibytes
  double matmul_flops_per_s = 0;  // cuBLASLt, 8192 x 8192 x 8192 of random bf16, f32 sums

  double us(const Roof& work) const {
    return 1e6 * std::max(work.bytes / read_bytes_per_s, work.flops / matmul_flops_per_s);
  }
};

CardRoof measure_card_roof();

// Lets the card cool, so that no case runs on one that the case before made hot.
void rest();

}  // namespace ashlar::bench
