#pragma once

// The CUDA rows of the table of backends (../backends.h), with the code behind them.

#include "kernels/attention/backends.h"
#include "kernels/attention/cuda/attention_cuda.h"

namespace ashlar {

// A body of form `heads`. takes() looks at what the table cannot know, alignment above all.
struct CudaAttentionBody {
  Status (*takes)(const AttnShape& shape, const PagedView& kv, DType q) = nullptr;
  CudaTiling (*tiling)(const AttnShape& shape, const PagedView& kv, DType q,
                       StepForm step) = nullptr;
  CudaAttentionFn run = nullptr;
};

// REQUIRES a CUDA row of form `heads`.
CudaAttentionBody cuda_attention_body(const AttentionBackend& row);

}  // namespace ashlar
