#pragma once

// The variants of the mma body. Each type's are defined in a file of their own, so that they
// compile side by side.

#include "kernels/attention/cuda/mma_layout.cuh"

namespace ashlar::cuda {

using MmaLaunch = void (*)(const MmaArgs&, int n_blocks, CUstream_st*);

// The variant for widths, null where there is none: kTeam warps of 16 rows together (1 or
// kMmaPrefillTeam); kTokenScales: FP8 pages whose tokens have scales.
template <DType kPages, int kTeam, bool kTokenScales>
MmaLaunch find_mma(int keys, int values);

}  // namespace ashlar::cuda
