#include "kernels/attention/cuda/decode_body.cuh"

namespace ashlar::cuda {

template <>
DecodeLaunch find_decode<DType::f8e5m2, true>(int keys, int values, bool whole) {
  return decode_variant<DType::f8e5m2, true>(keys, values, whole);
}

}  // namespace ashlar::cuda
