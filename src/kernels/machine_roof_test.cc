#include "kernels/machine_roof.h"

#include <gtest/gtest.h>

#include <cstring>

#include "tensor/buffer.h"

namespace ashlar {
namespace {

TEST(MachineRoof, TheLoopsReadAndComputeWhatTheySay) {
  const Buffer buffer = *Buffer::host(8192, "bytes");
  for (const Isa isa : available_isas()) {
    std::memset(buffer.data(), 0, 8192);
    EXPECT_EQ(roof_read(isa, buffer.data(), 8192), 0u);
    std::memset(buffer.data(), 4, 8192);
    EXPECT_EQ(roof_read(isa, buffer.data(), 8192), 0x0404040404040404u);
    // x = x / 2 + 1 tends to 2 in each of twelve chains.
    EXPECT_FLOAT_EQ(roof_fma(isa, 100).result, 24.0f);
    EXPECT_GE(roof_fma(isa, 100).flops, 2 * 12 * 100);
    if (isa != Isa::avx512_bf16) continue;
    // Chain i starts at i and grows by 1 + 1 each step.
    EXPECT_FLOAT_EQ(roof_bf16_dot(100).result, 16 * 200 + 15 * 16 / 2);
    EXPECT_EQ(roof_bf16_dot(100).flops, 64.0 * 16 * 100);
  }
}

TEST(MachineRoof, EveryFigureIsPositive) {
  Pool pool(2);
  for (const Isa isa : {Isa::baseline, best_isa()}) {
    const MachineRoof roof = measure_machine_roof(isa, pool);
    EXPECT_GT(roof.read_bytes_per_s, 1e8);
    EXPECT_GT(roof.f32_flops_per_s, 1e7);
    if (isa != Isa::avx512_bf16) {
      EXPECT_EQ(roof.bf16_flops_per_s, roof.f32_flops_per_s);
    } else {
      EXPECT_GT(roof.bf16_flops_per_s, 1e8);
    }
  }
}

}  // namespace
}  // namespace ashlar
