#include "kernels/attention/cuda/mma_body.cuh"

namespace ashlar::cuda {

template <>
MmaLaunch find_mma<DType::f8e5m2, 1, false>(int keys, int values) {
  return mma_variant<DType::f8e5m2, 1, false>(keys, values);
}

}  // namespace ashlar::cuda
