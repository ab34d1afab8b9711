#pragma once

// What the tests of CUDA attention share: a case of attention_testing.h on the device, and what the
// reference says of it. Test code only.

#include "kernels/attention/attention_testing.h"
#include "kernels/attention/cuda/attention_cuda.h"
#include "kernels/cuda/testing.cuh"

namespace ashlar {

inline std::vector<uint16_t> to_half_bits(const std::vector<float>& values, DType dtype) {
  std::vector<uint16_t> bits;
  bits.reserve(values.size());
  for (const float value : values)
    bits.push_back(dtype == DType::bf16 ? to_bf16(value).bits : to_f16(value).bits);
  return bits;
}
inline std::vector<float> from_half_bits(const std::vector<uint16_t>& bits, DType dtype) {
  std::vector<float> values;
  values.reserve(bits.size());
  for (const uint16_t value : bits)
    values.push_back(dtype == DType::bf16 ? to_float(Bf16{value}) : to_float(F16{value}));
  return values;
}

// Sequences of `pages` with their tables in device memory, absurd entries after each.
class DeviceSequences {
 public:
  DeviceSequences(const AttnCase& c, const Pages& pages, int64_t bytes_before)
      : seqs_(sequences(c, pages)), tables_(entries(pages, bytes_before)) {
    for (size_t i = 0; i < seqs_.size(); ++i) seqs_[i].pages = tables_.as<uint32_t>() + begins_[i];
  }
  const std::vector<AttnSeq>& get() const { return seqs_; }

 private:
  std::vector<uint32_t> entries(const Pages& pages, int64_t bytes_before) {
    constexpr uint32_t kAbsurd = 0xFFFFFFF0u;
    const auto before = static_cast<uint32_t>(bytes_before / kGranuleBytes);
    std::vector<uint32_t> all;
    for (size_t i = 0; i < seqs_.size(); ++i) {
      begins_.push_back(all.size());
      const int32_t n = (seqs_[i].kv_len + pages.view().page_tokens - 1) / pages.view().page_tokens;
      for (int32_t page = 0; page < n; ++page) {
        const uint32_t entry = pages.table(i)[page];
        all.push_back(entry == kAbsurd ? entry : entry + before);
      }
      all.insert(all.end(), 9, kAbsurd);
    }
    return all;
  }

  std::vector<AttnSeq> seqs_;
  std::vector<size_t> begins_;
  cuda::DeviceBytes tables_;
};

// attention_ref on queries rounded as the device gets them; sums and softmax in double.
inline std::vector<float> reference(const AttnCase& c, DType q) {
  AttnCase rounded = c;
  rounded.q = from_half_bits(to_half_bits(c.q, q), q);
  rounded.compute = DType::f32;
  const Pages pages(rounded, 16, 7, 16);
  const AttnPlan plan{.shape = c.shape, .seqs = sequences(c, pages)};
  std::vector<float> out(static_cast<size_t>(c.n_tokens() * c.shape.heads * c.shape.v_dim));
  Pool pool(1);
  attention_ref(plan,
                {.q = view(rounded.q, {c.n_tokens(), c.shape.heads, c.shape.k_dim}),
                 .out = view(out, {c.n_tokens(), c.shape.heads, c.shape.v_dim}),
                 .kv = pages.view(),
                 .scale = c.scale,
                 .softcap = c.softcap,
                 .sinks = c.sinks.empty() ? nullptr : c.sinks.data(),
                 .compute = DType::f32},
                pool);
  return out;
}

}  // namespace ashlar
