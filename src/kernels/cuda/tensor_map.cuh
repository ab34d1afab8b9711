#pragma once

// Tensor maps: how the copy engine is told of a tensor in device memory. Built on the host for each
// launch and passed by value. The driver's function is asked for by name, so that nothing links
// with the driver.

#include <cuda.h>

#include <array>

#include "kernels/cuda/launch.cuh"

namespace ashlar::cuda {

// Innermost dimension first, dense. Boxes are 64 or 128 bytes wide and swizzled by as many in
// shared memory. Addresses and strides are multiples of 16 bytes. Whatever a box holds beyond the
// dims is zero.
template <int kRank>
struct TensorMapSpec {
  const void* base = nullptr;
  std::array<cuuint64_t, kRank> dims = {};
  std::array<cuuint64_t, kRank - 1> strides = {};  // bytes, of dimensions 1..
  std::array<cuuint32_t, kRank> box = {};          // box[0] is 64 or 128 bytes
};

enum class MapElement : uint8_t { bf16, half, byte };  // half: any of 16 bits that are copied only

template <int kRank>
CUtensorMap tensor_map(const TensorMapSpec<kRank>& spec, MapElement element) {
  constexpr unsigned kSince = 12000;  // the version of the driver's interface
  void* found = nullptr;
  cudaDriverEntryPointQueryResult result{};
  CHECK_CUDA(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, kSince,
                                              cudaEnableDefault, &result));
  CHECK(found != nullptr, "the driver has no tensor maps: it answers {}", static_cast<int>(result));
  const auto encode = reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(found);
  std::array<cuuint32_t, kRank> steps;
  steps.fill(1);
  CUtensorMap map{};
  const CUtensorMapDataType type = element == MapElement::byte   ? CU_TENSOR_MAP_DATA_TYPE_UINT8
                                   : element == MapElement::bf16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16
                                                                 : CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
  const CUresult status =
      encode(&map, type, kRank, const_cast<void*>(spec.base), spec.dims.data(), spec.strides.data(),
             spec.box.data(), steps.data(), CU_TENSOR_MAP_INTERLEAVE_NONE,
             spec.box[0] * (element == MapElement::byte ? 1 : 2) == 64 ? CU_TENSOR_MAP_SWIZZLE_64B
                                                                       : CU_TENSOR_MAP_SWIZZLE_128B,
             CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  CHECK(status == CUDA_SUCCESS, "tensor map of rank {} at {}, row of {}, stride {}: error {}",
        kRank, spec.base, spec.dims[0], spec.strides[0], static_cast<int>(status));
  return map;
}

template <int kRank>
CUtensorMap tensor_map(const TensorMapSpec<kRank>& spec, bool bf16) {
  return tensor_map(spec, bf16 ? MapElement::bf16 : MapElement::half);
}

}  // namespace ashlar::cuda
