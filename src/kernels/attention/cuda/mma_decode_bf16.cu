#include "kernels/attention/cuda/mma_body.cuh"

namespace ashlar::cuda {

template <>
MmaLaunch mma_decode<DType::bf16>(int keys, int values) {
  return mma_variant<DType::bf16, 1>(keys, values);
}

}  // namespace ashlar::cuda
