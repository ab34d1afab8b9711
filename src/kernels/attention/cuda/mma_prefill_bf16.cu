#include "kernels/attention/cuda/mma_body.cuh"

namespace ashlar::cuda {

template <>
MmaLaunch find_mma<DType::bf16, kMmaPrefillTeam, false>(int keys, int values) {
  return mma_variant<DType::bf16, kMmaPrefillTeam, false>(keys, values);
}

}  // namespace ashlar::cuda
