#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention/kv_write_cpu.cc"
#include "kernels/cpu_targets.h"
// After cpu_targets.h, which trims the list of targets.
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

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

template <class T>
void WriteRow(const float* HWY_RESTRICT from, int64_t n, float multiplier, std::byte* page) {
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto factor = hn::Set(d, multiplier);
  T* to = reinterpret_cast<T*>(page);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) Narrow(d, hn::Mul(hn::LoadU(d, from + i), factor), to + i);
  const hn::CappedTag<float, 1> one;
  for (; i < n; ++i) Narrow(one, hn::Set(one, from[i] * multiplier), to + i);
}

void WriteRowAs(DType dtype, const float* from, int64_t n, float multiplier, std::byte* page) {
  if (dtype == DType::f32) return WriteRow<float>(from, n, multiplier, page);
  if (dtype == DType::bf16) return WriteRow<Bf16>(from, n, multiplier, page);
  WriteRow<F16>(from, n, multiplier, page);
}

void WriteToken(const KvWriteParams& p, const AttnSeq& seq, int32_t token) {
  const int32_t position = seq.kv_len - seq.q_len + token;
  const uint32_t granule = seq.pages[position / p.kv.page_tokens];
  const int32_t slot = position % p.kv.page_tokens;
  for (int64_t head = 0; head < p.kv.kv_heads; ++head) {
    const int64_t row = (seq.q_begin + token) * int64_t{p.kv.kv_heads} + head;
    WriteRowAs(p.kv.dtype, reinterpret_cast<const float*>(p.k.data) + row * p.kv.k_dim, p.kv.k_dim,
               1.0f, p.kv.k(granule, head, slot));
    WriteRowAs(p.kv.dtype, reinterpret_cast<const float*>(p.v.data) + row * p.kv.v_dim, p.kv.v_dim,
               p.v_multiplier, p.kv.v(granule, head, slot));
  }
}

void KvWrite(const KvWriteParams& p, Pool& pool) {
  CHECK(p.kv.dtype == DType::f32 || p.kv.dtype == DType::bf16 || p.kv.dtype == DType::f16, "{}",
        name(p.kv.dtype));
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
      for (int32_t token = begin; token < end; ++token) WriteToken(p, seq, token);
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
