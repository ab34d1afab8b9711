#pragma once

// Hopper's decode: the mma body's products with tokens for rows and queries for columns, K and V by
// tensor copies. Takes k/v 64/64, 128/128 and 192/128, pages of 16, 32, 64 ... tokens of q's dtype
// or FP8 whose K and V begin at multiples of 16 bytes, and decode_tiling(). The
// contract is attention_cuda.h's; sm_90a.

#include "kernels/attention/cuda/attention_cuda.h"

namespace ashlar {

void attention_cuda_decode(const CudaPlan& plan, const AttnParams& params, CUstream_st* stream);

// Why attention_cuda_decode does not take these, or ok.
Status decode_takes(const AttnShape& shape, const PagedView& kv, DType q);

CudaTiling decode_tiling(const AttnShape& shape);

}  // namespace ashlar
