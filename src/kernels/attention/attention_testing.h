#pragma once

// What the attention tests share: sequences of known K and V, laid out in pages with poison
// everywhere a kernel must not look, and one call that plans and runs. Test code only.

#include <algorithm>
#include <cstring>
#include <numeric>

#include "kernels/attention/attention.h"
#include "kernels/testing.h"

namespace ashlar {

struct SeqLength {
  int32_t q_len = 0;
  int32_t kv_len = 0;
};

// A step's inputs, before they are put into pages.
struct AttnCase {
  AttnShape shape;
  std::vector<SeqLength> lengths;
  std::vector<std::vector<float>> k, v;  // per sequence [kv_len, G, dim]
  std::vector<float> q;                  // [T, H, k_dim]
  std::vector<float> sinks;              // [H], or empty
  float scale = 1.0f;
  float softcap = 0.0f;
  DType dtype = DType::bf16;
  DType compute = DType::bf16;
  // FP8 pages: of the tensors, or one for every token of a head.
  float k_scale = 1.0f;
  float v_scale = 1.0f;
  bool token_scales = false;

  int64_t n_tokens() const {
    int64_t n = 0;
    for (const SeqLength& length : lengths) n += length.q_len;
    return n;
  }
};

inline AttnCase random_case(const AttnShape& shape, std::vector<SeqLength> lengths, DType dtype,
                            Random& random) {
  AttnCase made{.shape = shape, .lengths = std::move(lengths), .dtype = dtype};
  for (const SeqLength& length : made.lengths) {
    made.k.push_back(random.normal(int64_t{length.kv_len} * shape.kv_heads * shape.k_dim));
    made.v.push_back(random.normal(int64_t{length.kv_len} * shape.kv_heads * shape.v_dim));
  }
  made.q = random.normal(made.n_tokens() * shape.heads * shape.k_dim);
  made.scale = 2.0f / std::sqrt(static_cast<float>(shape.k_dim));  // peaked enough to tell
  made.compute = fits_bf16(dtype) ? DType::bf16 : DType::f32;
  return made;
}

// The case's sequence `i` with only its rows [begin, end): a chunk of its prefill.
inline AttnCase chunk_of(const AttnCase& all, size_t i, int32_t begin, int32_t end) {
  AttnCase part = all;
  const SeqLength length = all.lengths[i];
  const int32_t kv_len = length.kv_len - length.q_len + end;
  part.lengths = {{.q_len = end - begin, .kv_len = kv_len}};
  const auto cut = [&](const std::vector<float>& from, int64_t n) {
    return std::vector<float>(from.begin(), from.begin() + n);
  };
  part.k = {cut(all.k[i], int64_t{kv_len} * all.shape.kv_heads * all.shape.k_dim)};
  part.v = {cut(all.v[i], int64_t{kv_len} * all.shape.kv_heads * all.shape.v_dim)};
  int64_t first = begin;
  for (size_t before = 0; before < i; ++before) first += all.lengths[before].q_len;
  const int64_t width = int64_t{all.shape.heads} * all.shape.k_dim;
  part.q.assign(all.q.begin() + first * width, all.q.begin() + (first + end - begin) * width);
  return part;
}

// A case's K and V in pages: pages in random order with gaps between them, other layers' bytes
// around this layer's. Whatever no row sees (gaps, unused slots, tokens behind the window) is NaN,
// and table entries wholly behind the window are absurd. Parts of a page begin at multiples of
// `align` bytes.
class Pages {
 public:
  Pages(const AttnCase& c, int32_t page_tokens, uint64_t seed = 7, int64_t align = 1) {
    const AttnShape& s = c.shape;
    const int64_t element = size_of(c.dtype);
    const auto up = [&](int64_t offset) { return (offset + align - 1) / align * align; };
    view_ = {.k_offset_bytes = up(24 * element),
             .page_tokens = page_tokens,
             .kv_heads = s.kv_heads,
             .k_dim = s.k_dim,
             .v_dim = s.v_dim,
             .dtype = c.dtype};
    const int64_t k_bytes = int64_t{s.kv_heads} * page_tokens * s.k_dim * element;
    const int64_t v_bytes = int64_t{s.kv_heads} * page_tokens * s.v_dim * element;
    view_.v_offset_bytes = up(view_.k_offset_bytes + k_bytes + 4 * element);
    view_.k_scale = c.k_scale;
    view_.v_scale = c.v_scale;
    int64_t page_bytes = view_.v_offset_bytes + v_bytes + 8 * element;
    if (c.token_scales) {
      view_.scales_offset_bytes = (page_bytes + 3) / 4 * 4;
      page_bytes = view_.scales_offset_bytes + 8 * int64_t{s.kv_heads} * page_tokens;
    }
    const int64_t stride = (page_bytes + 2 * kGranuleBytes - 1) / kGranuleBytes;  // with a gap
    int64_t n_pages = 0;
    for (const SeqLength& length : c.lengths) n_pages += pages_of(length.kv_len);
    memory_.assign(static_cast<size_t>((n_pages + 1) * stride * kGranuleBytes), std::byte{0xFF});
    view_.base = memory_.data();
    std::vector<uint32_t> places(static_cast<size_t>(n_pages));
    for (size_t i = 0; i < places.size(); ++i) places[i] = static_cast<uint32_t>((i + 1) * stride);
    std::shuffle(places.begin(), places.end(), std::mt19937_64(seed));
    size_t next = 0;
    for (size_t i = 0; i < c.lengths.size(); ++i) {
      std::vector<uint32_t> table;
      for (int64_t p = 0; p < pages_of(c.lengths[i].kv_len); ++p) table.push_back(places[next++]);
      fill(c, i, table);
      tables_.push_back(std::move(table));
    }
  }

  const PagedView& view() const { return view_; }
  const uint32_t* table(size_t i) const { return tables_[i].data(); }
  const std::vector<std::byte>& memory() const { return memory_; }

 private:
  int64_t pages_of(int64_t n) const { return (n + view_.page_tokens - 1) / view_.page_tokens; }

  void fill(const AttnCase& c, size_t i, std::vector<uint32_t>& table) {
    const AttnShape& s = c.shape;
    const SeqLength length = c.lengths[i];
    const int32_t first = length.kv_len - length.q_len;
    const int32_t seen = s.window > 0 ? std::max(0, first - s.window + 1) : 0;
    for (int32_t j = 0; j < length.kv_len; ++j) {
      uint32_t& granule = table[static_cast<size_t>(j / view_.page_tokens)];
      if (j < seen) {
        const int32_t page_end = (j / view_.page_tokens + 1) * view_.page_tokens;
        if (page_end <= seen) granule = 0xFFFFFFF0u;
        continue;
      }
      for (int64_t head = 0; head < s.kv_heads; ++head) {
        const int64_t row = int64_t{j} * s.kv_heads + head;
        const int64_t slot = j % view_.page_tokens;
        const bool own = c.token_scales;
        put(c.k[i].data() + row * s.k_dim, s.k_dim, c.k_scale,
            own ? view_.k_token_scale(granule, head, slot) : nullptr, view_.k(granule, head, slot));
        put(c.v[i].data() + row * s.v_dim, s.v_dim, c.v_scale,
            own ? view_.v_token_scale(granule, head, slot) : nullptr, view_.v(granule, head, slot));
      }
    }
  }

  void put(const float* from, int64_t n, float scale, float* token_scale, std::byte* to) const {
    if (token_scale) {
      float largest = 0;
      for (int64_t i = 0; i < n; ++i) largest = std::max(largest, std::abs(from[i]));
      scale = std::max(largest / f8_format(view_.dtype).largest_value(), kSmallestTokenScale);
      *token_scale = scale;
    }
    for (int64_t i = 0; i < n; ++i) {
      const Bf16 bf16 = to_bf16(from[i]);
      const F16 f16 = to_f16(from[i]);
      if (view_.dtype == DType::f32) std::memcpy(to + 4 * i, from + i, 4);
      if (view_.dtype == DType::bf16) std::memcpy(to + 2 * i, &bf16, 2);
      if (view_.dtype == DType::f16) std::memcpy(to + 2 * i, &f16, 2);
      if (view_.dtype == DType::f8e4m3) to[i] = std::byte{to_f8e4m3(from[i] / scale).bits};
      if (view_.dtype == DType::f8e5m2) to[i] = std::byte{to_f8e5m2(from[i] / scale).bits};
    }
  }

  std::vector<std::byte> memory_;
  std::vector<std::vector<uint32_t>> tables_;
  PagedView view_;
};

// The sequences of a case laid out in `pages`, rows packed one after the other.
inline std::vector<AttnSeq> sequences(const AttnCase& c, const Pages& pages) {
  std::vector<AttnSeq> seqs;
  int32_t begin = 0;
  for (size_t i = 0; i < c.lengths.size(); ++i) {
    seqs.push_back({.q_begin = begin,
                    .q_len = c.lengths[i].q_len,
                    .kv_len = c.lengths[i].kv_len,
                    .pages = pages.table(i)});
    begin += c.lengths[i].q_len;
  }
  return seqs;
}

// Plans and runs; workspace and out start as NaN.
inline std::vector<float> run_attention(AttentionFn fn, const AttnCase& c, int32_t page_tokens = 16,
                                        int n_threads = 2) {
  Pool pool(n_threads);
  const Pages pages(c, page_tokens);
  const std::vector<AttnSeq> seqs = sequences(c, pages);
  const AttnPlan plan = plan_attention(c.shape, seqs, n_threads);
  struct alignas(64) Line {
    std::byte bytes[64];
  };
  std::vector<Line> workspace(static_cast<size_t>(plan.workspace_bytes + 63) / 64);
  std::memset(static_cast<void*>(workspace.data()), 0xFF, workspace.size() * sizeof(Line));
  std::vector<float> out =
      poisoned(static_cast<size_t>(c.n_tokens() * c.shape.heads * c.shape.v_dim));
  AttnParams p{.q = view(c.q, {c.n_tokens(), c.shape.heads, c.shape.k_dim}),
               .out = view(out, {c.n_tokens(), c.shape.heads, c.shape.v_dim}),
               .kv = pages.view(),
               .scale = c.scale,
               .softcap = c.softcap,
               .sinks = c.sinks.empty() ? nullptr : c.sinks.data(),
               .compute = c.compute,
               .workspace = {reinterpret_cast<std::byte*>(workspace.data()),
                             static_cast<size_t>(plan.workspace_bytes)}};
  fn(plan, p, pool);
  return out;
}

inline std::string text(const AttnCase& c) {
  std::string out =
      fmt::format("H {} G {} k {} v {} window {} {} softcap {} sinks {} {}/{}:", c.shape.heads,
                  c.shape.kv_heads, c.shape.k_dim, c.shape.v_dim, c.shape.window,
                  c.shape.causal ? "causal" : "block", c.softcap, c.sinks.size(), name(c.dtype),
                  name(c.compute));
  for (const SeqLength& length : c.lengths) {
    out += fmt::format(" {}/{}", length.q_len, length.kv_len);
  }
  return out;
}

}  // namespace ashlar
