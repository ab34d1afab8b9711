#pragma once

// The CUDA body of RMSNorm: the contract of rms_norm.h with x, weight and y in device memory,
// queued on a stream. Does not wait, allocate or read the environment; a launch the device refuses
// ends the program.

#include "kernels/norm/rms_norm.h"

struct CUstream_st;  // cudaStream_t without CUDA's headers

namespace ashlar {

void rms_norm_cuda(const RmsNormParams& params, CUstream_st* stream);

}  // namespace ashlar
