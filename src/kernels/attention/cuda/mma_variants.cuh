#pragma once

// The variants of the mma body. Each type's are defined in a file of their own, so that they
// compile side by side.

#include "kernels/attention/cuda/mma_layout.cuh"

namespace ashlar::cuda {

using MmaLaunch = void (*)(const MmaArgs&, int n_blocks, CUstream_st*);

// The variant for widths, null where there is none: 16 rows a block, or 64.
template <DType kPages>
MmaLaunch mma_decode(int keys, int values);
template <DType kPages>
MmaLaunch mma_prefill(int keys, int values);

}  // namespace ashlar::cuda
