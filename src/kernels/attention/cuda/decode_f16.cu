#include "kernels/attention/cuda/decode_body.cuh"

namespace ashlar::cuda {

template <>
DecodeLaunch find_decode<DType::f16, false>(int keys, int values, bool whole) {
  return decode_variant<DType::f16, false>(keys, values, whole);
}

}  // namespace ashlar::cuda
