#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention/kv_write_cpu.cc"
#include "kernels/cpu_targets.h"
// After cpu_targets.h, which trims the list of targets.
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <limits>

#include "kernels/attention/attention.h"

HWY_BEFORE_NAMESPACE();
namespace ashlar::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Rounding is integer arithmetic on every instruction set, step by step as in tensor/dtype.h:
// Highway's own demotions truncate on some.
template <class D>
HWY_INLINE void Narrow(D d, hn::Vec<D> values, float* to) {
  hn::StoreU(values, d, to);
}
template <class D>
HWY_INLINE void Narrow(D, hn::Vec<D> values, Bf16* to) {
  const hn::RebindToUnsigned<D> du;
  const hn::Rebind<uint16_t, D> d16;
  const auto bits = hn::BitCast(du, values);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1u));
  const auto rounded = hn::ShiftRight<16>(hn::Add(hn::Add(bits, hn::Set(du, 0x7FFFu)), odd));
  const auto quiet = hn::Or(hn::ShiftRight<16>(bits), hn::Set(du, 0x40u));
  const auto is_number = hn::RebindMask(du, hn::Eq(values, values));
  hn::StoreU(hn::TruncateTo(d16, hn::IfThenElse(is_number, rounded, quiet)), d16,
             reinterpret_cast<uint16_t*>(to));
}
template <class D>
HWY_INLINE void Narrow(D d, hn::Vec<D> values, F16* to) {
  const hn::RebindToUnsigned<D> du;
  const hn::RebindToSigned<D> di;  // magnitudes are below 2^31: signed compares will do
  const hn::Rebind<uint16_t, D> d16;
  const auto bits = hn::BitCast(di, values);
  const auto sign = hn::And(hn::ShiftRight<16>(hn::BitCast(du, values)), hn::Set(du, 0x8000u));
  const auto magnitude = hn::And(bits, hn::Set(di, 0x7FFFFFFF));
  const auto odd = hn::And(hn::ShiftRight<13>(magnitude), hn::Set(di, 1));
  const auto rounded = hn::Add(hn::Add(magnitude, hn::Set(di, 0xFFF)), odd);
  auto half = hn::ShiftRight<13>(hn::Sub(rounded, hn::Set(di, 0x38000000)));
  const auto shifted = hn::Add(hn::BitCast(d, magnitude), hn::Set(d, 0.5f));
  const auto subnormal = hn::Sub(hn::BitCast(di, shifted), hn::Set(di, 0x3F000000));
  half = hn::IfThenElse(hn::Lt(magnitude, hn::Set(di, 0x38800000)), subnormal, half);
  half = hn::IfThenElse(hn::Gt(magnitude, hn::Set(di, 0x477FEFFF)), hn::Set(di, 0x7C00), half);
  half = hn::IfThenElse(hn::Gt(magnitude, hn::Set(di, 0x7F800000)), hn::Set(di, 0x7E00), half);
  hn::StoreU(hn::TruncateTo(d16, hn::Or(hn::BitCast(du, half), sign)), d16,
             reinterpret_cast<uint16_t*>(to));
}

template <class F8, class D>
HWY_INLINE void NarrowF8(D d, hn::Vec<D> values, F8* to) {
  constexpr F8Format kFormat = F8::kFormat;
  constexpr int kShift = kFormat.shift();
  const hn::RebindToUnsigned<D> du;
  const hn::RebindToSigned<D> di;
  const hn::Rebind<uint8_t, D> d8;
  const auto int_of = [](float value) { return std::bit_cast<int32_t>(value); };
  const auto bits = hn::BitCast(di, values);
  const auto sign = hn::And(hn::ShiftRight<24>(hn::BitCast(du, values)), hn::Set(du, 0x80u));
  const auto all = hn::And(bits, hn::Set(di, 0x7FFFFFFF));
  const auto magnitude = hn::Min(all, hn::Set(di, int_of(kFormat.largest_value())));
  const auto odd = hn::And(hn::ShiftRight<kShift>(magnitude), hn::Set(di, 1));
  const auto rounded = hn::Add(hn::Add(magnitude, hn::Set(di, (1 << (kShift - 1)) - 1)), odd);
  const auto rebias = hn::Set(di, static_cast<int32_t>(kFormat.rebias()));
  const auto normal = hn::ShiftRight<kShift>(hn::Sub(rounded, rebias));
  const auto shifted = hn::Add(hn::BitCast(d, magnitude), hn::Set(d, kFormat.aligner()));
  const auto subnormal = hn::Sub(hn::BitCast(di, shifted), hn::Set(di, int_of(kFormat.aligner())));
  const auto smallest_normal = hn::Add(rebias, hn::Set(di, 1 << 23));
  auto code = hn::IfThenElse(hn::Lt(magnitude, smallest_normal), subnormal, normal);
  code = hn::IfThenElse(hn::Gt(all, hn::Set(di, 0x7F800000)), hn::Set(di, 0x7F), code);
  hn::StoreU(hn::TruncateTo(d8, hn::Or(hn::BitCast(du, code), sign)), d8,
             reinterpret_cast<uint8_t*>(to));
}
template <class D>
HWY_INLINE void Narrow(D d, hn::Vec<D> values, F8E4M3* to) {
  NarrowF8(d, values, to);
}
template <class D>
HWY_INLINE void Narrow(D d, hn::Vec<D> values, F8E5M2* to) {
  NarrowF8(d, values, to);
}

// A row to write. Stored is from * multiplier / scale; a division by one changes nothing.
struct Row {
  const float* from;
  int64_t n;
  float multiplier;
  float scale;
  std::byte* to;
};

template <class T>
void WriteRow(const Row& row) {
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto factor = hn::Set(d, row.multiplier), scale = hn::Set(d, row.scale);
  T* to = reinterpret_cast<T*>(row.to);
  int64_t i = 0;
  for (; i + lanes <= row.n; i += lanes) {
    Narrow(d, hn::Div(hn::Mul(hn::LoadU(d, row.from + i), factor), scale), to + i);
  }
  const hn::CappedTag<float, 1> one;
  for (; i < row.n; ++i) {
    Narrow(one, hn::Set(one, row.from[i] * row.multiplier / row.scale), to + i);
  }
}

void WriteRowAs(DType dtype, const Row& row) {
  if (dtype == DType::f32) return WriteRow<float>(row);
  if (dtype == DType::bf16) return WriteRow<Bf16>(row);
  if (dtype == DType::f8e4m3) return WriteRow<F8E4M3>(row);
  if (dtype == DType::f8e5m2) return WriteRow<F8E5M2>(row);
  WriteRow<F16>(row);
}

// The largest |value| before the scale. A NaN is not larger than anything.
float Largest(const Row& row) {
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto factor = hn::Set(d, row.multiplier);
  auto most = hn::Zero(d);
  int64_t i = 0;
  for (; i + lanes <= row.n; i += lanes) {
    const auto magnitude = hn::Abs(hn::Mul(hn::LoadU(d, row.from + i), factor));
    most = hn::IfThenElse(hn::Gt(magnitude, most), magnitude, most);
  }
  float found = hn::GetLane(hn::MaxOfLanes(d, most));
  for (; i < row.n; ++i) {
    const float magnitude = std::abs(row.from[i] * row.multiplier);
    if (magnitude > found) found = magnitude;
  }
  return found;
}

// Values further out than `limit` once divided by the scale.
int64_t CountBeyond(const Row& row, float limit) {
  int64_t n = 0;
  for (int64_t i = 0; i < row.n; ++i) {
    n += std::abs(row.from[i] * row.multiplier / row.scale) > limit;
  }
  return n;
}

void WriteScaledRow(const KvWriteParams& p, Row row, float* token_scale, WriteStats& stats,
                    float& largest_met) {
  const bool f8 = is_f8(p.kv.dtype);
  const F8Format& format = f8_format(p.kv.dtype);
  if (!f8) row.scale = 1.0f;
  const float largest = token_scale || p.stats ? Largest(row) : 0.0f;
  if (token_scale) {
    const float bounded = std::min(largest, std::numeric_limits<float>::max());
    *token_scale = row.scale = std::max(bounded / format.largest_value(), kSmallestTokenScale);
  }
  WriteRowAs(p.kv.dtype, row);
  if (!p.stats) return;
  stats.values += row.n;
  if (f8) stats.clipped += CountBeyond(row, format.half_above);
  largest_met = std::max(largest_met, largest);
}

void WriteToken(const KvWriteParams& p, const AttnSeq& seq, int32_t token, WriteStats& stats) {
  const int32_t position = seq.kv_len - seq.q_len + token;
  const uint32_t granule = seq.pages[position / p.kv.page_tokens];
  const int32_t slot = position % p.kv.page_tokens;
  const bool own = p.kv.has_token_scales();
  for (int64_t head = 0; head < p.kv.kv_heads; ++head) {
    const int64_t row = (seq.q_begin + token) * int64_t{p.kv.kv_heads} + head;
    const Row k{.from = reinterpret_cast<const float*>(p.k.data) + row * p.kv.k_dim,
                .n = p.kv.k_dim,
                .multiplier = 1.0f,
                .scale = p.kv.k_scale,
                .to = p.kv.k(granule, head, slot)};
    WriteScaledRow(p, k, own ? p.kv.k_token_scale(granule, head, slot) : nullptr, stats,
                   stats.largest_k);
    if (p.kv.v_dim == 0) continue;
    const Row v{.from = reinterpret_cast<const float*>(p.v.data) + row * p.kv.v_dim,
                .n = p.kv.v_dim,
                .multiplier = p.v_multiplier,
                .scale = p.kv.v_scale,
                .to = p.kv.v(granule, head, slot)};
    WriteScaledRow(p, v, own ? p.kv.v_token_scale(granule, head, slot) : nullptr, stats,
                   stats.largest_v);
  }
}

// Tasks add to one total: sums and maxima, so their order does not show.
void Add(const WriteStats& part, WriteStats* total) {
  const auto raise = [](float& to, float value) {
    std::atomic_ref<float> shared(to);
    float old = shared.load();
    while (old < value && !shared.compare_exchange_weak(old, value)) {
    }
  };
  std::atomic_ref<int64_t>(total->values) += part.values;
  std::atomic_ref<int64_t>(total->clipped) += part.clipped;
  raise(total->largest_k, part.largest_k);
  raise(total->largest_v, part.largest_v);
}

void KvWrite(const KvWriteParams& p, Pool& pool) {
  const DType stored = p.kv.dtype;
  CHECK(stored == DType::f32 || stored == DType::f16 || fits_bf16(stored), "{}", name(stored));
  CHECK(!p.kv.has_token_scales() || is_f8(stored), "token scales in {} pages", name(stored));
  // A task is a sequence's run of tokens: enough that handing it out costs less than doing it.
  constexpr int32_t kTokensPerTask = 16;
  int64_t n_tasks = 0;
  for (const AttnSeq& seq : p.seqs) n_tasks += (seq.q_len + kTokensPerTask - 1) / kTokensPerTask;
  // Decode has one token per sequence: then sequences are few enough to walk per task.
  pool.each(n_tasks, [&](int64_t task, int) {
    for (const AttnSeq& seq : p.seqs) {
      const int32_t n = (seq.q_len + kTokensPerTask - 1) / kTokensPerTask;
      if (task >= n) {
        task -= n;
        continue;
      }
      const auto begin = static_cast<int32_t>(task) * kTokensPerTask;
      const int32_t end = std::min(seq.q_len, begin + kTokensPerTask);
      WriteStats stats;
      for (int32_t token = begin; token < end; ++token) WriteToken(p, seq, token, stats);
      if (p.stats) Add(stats, p.stats);
      return;
    }
  });
}

}  // namespace ashlar::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ashlar {

ASHLAR_PER_ISA(kv_write_cpu, KvWrite)

}  // namespace ashlar
#endif
