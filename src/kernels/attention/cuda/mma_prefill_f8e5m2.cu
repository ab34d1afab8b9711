#include "kernels/attention/cuda/mma_body.cuh"

namespace ashlar::cuda {

template <>
MmaLaunch mma_prefill<DType::f8e5m2>(int keys, int values) {
  return mma_variant<DType::f8e5m2, 4>(keys, values);
}

}  // namespace ashlar::cuda
