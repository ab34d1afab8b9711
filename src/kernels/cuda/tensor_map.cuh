#pragma once

// Tensor maps: how the copy engine is told of a tensor in device memory. Built on the host for each
// launch and passed by value. The driver's function is asked for by name, so that nothing links
// with the driver.

#include <cuda.h>

#include <array>

#include "kernels/cuda/launch.cuh"

namespace ashlar::cuda {

// 16-bit elements, swizzled by 128 bytes in shared memory; innermost dimension first, dense.
// Addresses and strides are multiples of 16 bytes. Whatever a box holds beyond the dims is zero.
template <int kRank>
struct TensorMapSpec {
  const void* base = nullptr;
  std::array<cuuint64_t, kRank> dims = {};
  std::array<cuuint64_t, kRank - 1> strides = {};  // bytes, of dimensions 1..
  std::array<cuuint32_t, kRank> box = {};          // box[0] is 64 elements
};

template <int kRank>
CUtensorMap tensor_map(const TensorMapSpec<kRank>& spec, bool bf16) {
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
  const CUresult status =
      encode(&map, bf16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT16, kRank,
             const_cast<void*>(spec.base), spec.dims.data(), spec.strides.data(), spec.box.data(),
             steps.data(), CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
             CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  CHECK(status == CUDA_SUCCESS, "tensor map of rank {} at {}, row of {}, stride {}: error {}",
        kRank, spec.base, spec.dims[0], spec.strides[0], static_cast<int>(status));
  return map;
}

}  // namespace ashlar::cuda
