#include "kernels/act/silu_mul.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/act/silu_mul_cpu.cc"
#include "kernels/cpu_targets.h"
// After cpu_targets.h, which trims the list of targets.
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/act/gating-inl.h"

#include <algorithm>

#include "base/checked.h"

HWY_BEFORE_NAMESPACE();
namespace ashlar::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <GateKind kKind>
void GatedSpan(const Gating& g, const float* gate, const float* up, int64_t n, float* y) {
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    hn::StoreU(Gated<kKind>(d, g, hn::LoadU(d, gate + i), hn::LoadU(d, up + i)), d, y + i);
  }
  if (i == n) return;
  // The rest through a full vector, so that an element's result does not depend on where it stands.
  HWY_ALIGN float last_gate[hn::MaxLanes(d)] = {};
  HWY_ALIGN float last_up[hn::MaxLanes(d)] = {};
  std::copy(gate + i, gate + n, last_gate);
  std::copy(up + i, up + n, last_up);
  hn::Store(Gated<kKind>(d, g, hn::Load(d, last_gate), hn::Load(d, last_up)), d, last_gate);
  std::copy(last_gate, last_gate + (n - i), y + i);
}

auto SpanOf(GateKind kind) {
  switch (kind) {
    case GateKind::silu: return GatedSpan<GateKind::silu>;
    case GateKind::gelu: return GatedSpan<GateKind::gelu>;
    case GateKind::clamped: return GatedSpan<GateKind::clamped>;
    case GateKind::sigmoid: return GatedSpan<GateKind::sigmoid>;
  }
  return GatedSpan<GateKind::silu>;
}

void SiluMul(const SiluMulParams& p, Pool& pool) {
  const auto span = SpanOf(p.gating.kind);
  // A task is a span of one row: one token's row is work for every thread.
  constexpr int64_t kSpan = 4096;
  const int64_t width = p.gate.dim(1);
  const int64_t spans = ceil_div(width, kSpan);
  pool.each(p.gate.dim(0) * spans, [&](int64_t task, int) {
    const int64_t t = task / spans;
    const int64_t begin = task % spans * kSpan;
    span(p.gating, p.gate.row<float>(t) + begin, p.up.row<float>(t) + begin,
         std::min(kSpan, width - begin), p.y.row<float>(t) + begin);
  });
}

}  // namespace ashlar::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ashlar {

ASHLAR_PER_ISA(silu_mul_cpu, SiluMul)

}  // namespace ashlar
#endif
