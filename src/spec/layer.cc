#include "spec/layer.h"

#include <algorithm>

namespace ashlar {

Shape StateSpec::conv_shape(int32_t ranks) const {
  const int64_t shared = key_heads == 0 ? 0 : std::max(1, key_heads / ranks);
  // Values, and for every key head a key and a query (B and C, in Mamba's words).
  const int64_t channels = int64_t{heads} / ranks * value_dim + 2 * shared * key_dim;
  return {conv_kernel - 1, channels};
}

Shape StateSpec::recurrent_shape(int32_t ranks) const {
  return {heads / ranks, value_dim, key_dim};
}

int64_t StateSpec::bytes(int32_t ranks) const {
  return conv_shape(ranks).elements() * size_of(conv_dtype) +
         recurrent_shape(ranks).elements() * size_of(recurrent_dtype);
}

}  // namespace ashlar
