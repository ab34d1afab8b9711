#include "kernels/attention/cuda/mma_body.cuh"

namespace ashlar::cuda {

template <>
MmaLaunch find_mma<DType::f8e4m3, kMmaPrefillTeam, false>(int keys, int values) {
  return mma_variant<DType::f8e4m3, kMmaPrefillTeam, false>(keys, values);
}

}  // namespace ashlar::cuda
