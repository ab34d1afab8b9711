// Which prefill kernel runs what.

#include "kernels/attention/cuda/prefill.h"

#include <bit>

#include "kernels/attention/cuda/prefill_launch.cuh"

namespace ashlar {
namespace {

// Up to this window, the rows of a tile see so little that tiles should be small.
constexpr int32_t kShortWindow = 256;

const cuda::PrefillKernel* find(const AttnShape& shape, const PagedView& kv, DType q) {
  const bool window = shape.window > 0 && shape.window <= kShortWindow;
  const cuda::PrefillKernel* found = nullptr;
  for (const auto rows : {cuda::prefill_bf16(), cuda::prefill_f16(), cuda::prefill_f8()}) {
    for (const cuda::PrefillKernel& row : rows) {
      if (row.q != q || row.stored != kv.dtype || row.token_scales != kv.has_token_scales())
        continue;
      if (shape.k_dim > row.k_width || shape.v_dim > row.v_width) continue;
      // FP8 rows are read as if as wide as the kernel.
      if (is_f8(kv.dtype) && (shape.k_dim != row.k_width || shape.v_dim != row.v_width)) continue;
      const bool narrow = found == nullptr || row.k_width == found->k_width;
      if (narrow && (found == nullptr || row.window == window)) found = &row;
    }
  }
  return found;
}

Status aligned(const PagedView& kv) {
  constexpr int64_t kAlign = 16;  // what copies move at least
  if (reinterpret_cast<uintptr_t>(kv.base) % kAlign != 0 || kv.k_offset_bytes % kAlign != 0 ||
      kv.v_offset_bytes % kAlign != 0)
    return unsupported("K at byte {} and V at byte {} of a page: wgmma takes multiples of {}",
                       kv.k_offset_bytes, kv.v_offset_bytes, kAlign);
  if (kv.k_dim * size_of(kv.dtype) % kAlign != 0 || kv.v_dim * size_of(kv.dtype) % kAlign != 0)
    return unsupported("rows of {} and {} {}: wgmma takes multiples of {} bytes", kv.k_dim,
                       kv.v_dim, name(kv.dtype), kAlign);
  if (kv.page_tokens < kAlign || !std::has_single_bit(static_cast<uint32_t>(kv.page_tokens)))
    return unsupported("pages of {} tokens: wgmma takes powers of two from {} on", kv.page_tokens,
                       kAlign);
  return {};
}

}  // namespace

Status wgmma_takes(const AttnShape& shape, const PagedView& kv, DType q) {
  if (kv.v_dim == 0 || kv.kv_heads != shape.kv_heads)
    return unsupported("latents: wgmma takes pages of K and V with {} heads", shape.kv_heads);
  if (find(shape, kv, q) == nullptr)
    return unsupported(
        "widths {}/{} of {} pages{} and {} queries: wgmma takes {}", shape.k_dim, shape.v_dim,
        name(kv.dtype), kv.has_token_scales() ? " with scales" : "", name(q),
        "up to 64/64, 128/128, 192/128, 256/256 of one 16-bit type, or just these of "
        "8-bit floats (e4m3 where tokens have scales) for bf16 queries");
  return aligned(kv);
}

CudaTiling wgmma_tiling(const AttnShape& shape, const PagedView& kv, DType q) {
  const cuda::PrefillKernel* kernel = find(shape, kv, q);
  CHECK(kernel != nullptr, "k {} v {} of {} pages for {}", shape.k_dim, shape.v_dim, name(kv.dtype),
        name(q));
  return {.rows = kernel->rows, .kv_split = 0};
}

void attention_cuda_wgmma(const CudaPlan& plan, const AttnParams& params, CUstream_st* stream) {
  const Status takes = wgmma_takes(plan.shape, params.kv, params.q.dtype);
  CHECK(takes.has_value(), "{}", takes.error().text);
  const cuda::PrefillKernel* kernel = find(plan.shape, params.kv, params.q.dtype);
  CHECK(plan.tiling.rows == kernel->rows && plan.tiling.kv_split == 0, "rows {} split {}",
        plan.tiling.rows, plan.tiling.kv_split);
  if (plan.n_works > 0) kernel->run(plan, params, stream);
}

}  // namespace ashlar
