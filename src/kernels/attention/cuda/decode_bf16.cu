#include "kernels/attention/cuda/decode_body.cuh"

namespace ashlar::cuda {

template <>
DecodeLaunch find_decode<DType::bf16, false>(int keys, int values, bool whole) {
  return decode_variant<DType::bf16, false>(keys, values, whole);
}

}  // namespace ashlar::cuda
