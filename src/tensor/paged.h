#pragma once

// PagedView: one layer's K and V inside the pages of a cache group. This is all a kernel knows of
// the cache, and all the cache knows of kernels.
//
// A page lives at `base + table[i] * kGranuleBytes`, where table[i] is the page's offset in
// granules: a kernel never multiplies a page number by a stride, so pages may lie anywhere, in any
// order, padded or not. Inside a page this layer's K is `[kv_heads][page_tokens][k_dim]` at
// k_offset_bytes and its V
// `[kv_heads][page_tokens][v_dim]` at v_offset_bytes; other layers of the group lie around them.
// v_dim 0: there is no V, and the first elements of K's rows serve as values (latents).

#include <cstddef>
#include <cstdint>

#include "tensor/dtype.h"

namespace ashlar {

constexpr int64_t kGranuleBytes = 256;

struct PagedView {
  std::byte* base = nullptr;
  int64_t k_offset_bytes = 0;
  int64_t v_offset_bytes = 0;
  int32_t page_tokens = 16;
  int32_t kv_heads = 1;
  int32_t k_dim = 0;
  int32_t v_dim = 0;
  DType dtype = DType::bf16;
  float k_scale = 1.0f;  // stored = value / scale; used by FP8 pages only
  float v_scale = 1.0f;
  // When >= 0 (FP8 pages; a multiple of 4), every token of a head has scales of its own instead:
  // `[kv_heads][page_tokens]` f32 of K here, and the same of V after them where there is V.
  int64_t scales_offset_bytes = -1;

  bool has_token_scales() const { return scales_offset_bytes >= 0; }

  // First element of token `slot` (0 <= slot < page_tokens) of a head, in the page at `granule`.
  // The page's further tokens follow, k_dim (v_dim) elements apart.
  std::byte* k(uint32_t granule, int64_t head, int64_t slot) const {
    return base + granule * kGranuleBytes + k_offset_bytes +
           (head * page_tokens + slot) * k_dim * size_of(dtype);
  }
  std::byte* v(uint32_t granule, int64_t head, int64_t slot) const {
    return base + granule * kGranuleBytes + v_offset_bytes +
           (head * page_tokens + slot) * v_dim * size_of(dtype);
  }
  float* k_token_scale(uint32_t granule, int64_t head, int64_t slot) const {
    return reinterpret_cast<float*>(base + granule * kGranuleBytes + scales_offset_bytes) +
           head * page_tokens + slot;
  }
  float* v_token_scale(uint32_t granule, int64_t head, int64_t slot) const {
    return k_token_scale(granule, kv_heads + head, slot);
  }
};

}  // namespace ashlar
