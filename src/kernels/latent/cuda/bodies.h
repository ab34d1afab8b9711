#pragma once

// The CUDA rows of form `latent` of the table of backends (kernels/attention/backends.h), with the
// code behind them.

#include "kernels/attention/backends.h"
#include "kernels/latent/cuda/latent_cuda.h"

namespace ashlar {

// REQUIRES a CUDA row of form `latent`.
CudaLatentBody cuda_latent_body(const AttentionBackend& row);

// The plain body of attention_cuda.h over rows that are key and value.
CudaLatentBody latent_cuda_plain();

}  // namespace ashlar
