#include "kernels/machine_roof.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/machine_roof_cpu.cc"
#include "kernels/cpu_targets.h"
// After cpu_targets.h, which trims the list of targets.
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace ashlar::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Four streams at once: one alone does not keep enough reads under way.
uint64_t Read(const std::byte* data, int64_t bytes) {
  const hn::ScalableTag<uint64_t> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const int64_t words = bytes / 8 / 4;
  const auto* words0 = reinterpret_cast<const uint64_t*>(data);
  auto seen0 = hn::Zero(d), seen1 = hn::Zero(d), seen2 = hn::Zero(d), seen3 = hn::Zero(d);
  for (int64_t i = 0; i + lanes <= words; i += lanes) {
    seen0 = hn::Or(seen0, hn::LoadU(d, words0 + i));
    seen1 = hn::Or(seen1, hn::LoadU(d, words0 + words + i));
    seen2 = hn::Or(seen2, hn::LoadU(d, words0 + 2 * words + i));
    seen3 = hn::Or(seen3, hn::LoadU(d, words0 + 3 * words + i));
  }
  return hn::GetLane(hn::Or(hn::Or(seen0, seen1), hn::Or(seen2, seen3)));
}

// Twelve chains: two units of latency four need eight, and sixteen registers hold twelve.
RoofFlops Fma(int64_t n_steps) {
  constexpr int kChains = 12;
  const hn::ScalableTag<float> d;
  hn::Vec<decltype(d)> chain[kChains];
  for (int i = 0; i < kChains; ++i) chain[i] = hn::Set(d, static_cast<float>(i));
  const auto half = hn::Set(d, 0.5f), one = hn::Set(d, 1.0f);
  for (int64_t step = 0; step < n_steps; ++step) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) chain[i] = hn::MulAdd(chain[i], half, one);
  }
  auto sum = chain[0];
  for (int i = 1; i < kChains; ++i) sum = hn::Add(sum, chain[i]);
  return {.flops = 2.0 * kChains * static_cast<double>(hn::Lanes(d)) * static_cast<double>(n_steps),
          .result = hn::GetLane(sum)};
}

}  // namespace ashlar::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ashlar {
namespace {
ASHLAR_PER_ISA(pick_read, Read)
ASHLAR_PER_ISA(pick_fma, Fma)
}  // namespace

uint64_t roof_read(Isa isa, const std::byte* data, int64_t bytes) {
  return pick_read(isa)(data, bytes);
}
RoofFlops roof_fma(Isa isa, int64_t n_steps) { return pick_fma(isa)(n_steps); }

}  // namespace ashlar
#endif
