#pragma once

// Attention for many rows on Hopper (sm_90a): prefill and chunks of it, straight from the pages.
// docs/kernels/prefill_cuda.md says how it works.

#include "base/result.h"
#include "kernels/attention/cuda/attention_cuda.h"

namespace ashlar {

// Why attention_cuda_wgmma does not take these, or ok; ask once per model. q is bf16 or f16; pages
// hold q's dtype, or FP8 with one scale. Widths are multiples of 8 (of 16 for FP8) up to 192 and
// 128, or 256; pages hold a multiple of 16 tokens, and lie at multiples of 16 bytes.
Status wgmma_takes(const AttnShape& shape, const PagedView& kv, DType q);

// What plan_cuda() needs for it. REQUIRES wgmma_takes().
CudaTiling wgmma_tiling(const AttnShape& shape, const PagedView& kv, DType q);

// REQUIRES wgmma_takes(), a plan of wgmma_tiling()'s, a device of compute capability 9.0.
void attention_cuda_wgmma(const CudaPlan& plan, const AttnParams& params, CUstream_st* stream);

}  // namespace ashlar
