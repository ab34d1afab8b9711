#pragma once

// The variants of the decode body. Each type's are defined in a file of their own, so that they
// compile side by side.

#include "kernels/attention/cuda/decode_layout.cuh"

namespace ashlar::cuda {

using DecodeLaunch = void (*)(const MmaArgs&, const PagedView&, int n_blocks, CUstream_st*);

// The variant for widths, null where there is none. kTokenScales: FP8 pages whose tokens have
// scales; whole: works are not split.
template <DType kPages, bool kTokenScales>
DecodeLaunch find_decode(int keys, int values, bool whole);

// What a launch tells its kernel: the mma body's arguments.
MmaArgs mma_args(const CudaPlan& plan, const AttnParams& params);

}  // namespace ashlar::cuda
