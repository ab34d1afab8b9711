#include "kernels/attention/cuda/mma_body.cuh"

namespace ashlar::cuda {

template <>
MmaLaunch mma_decode<DType::f8e4m3>(int keys, int values) {
  return mma_variant<DType::f8e4m3, 1>(keys, values);
}

}  // namespace ashlar::cuda
