#pragma once

// Tensor maps: how the copy engine is told of a tensor in device memory. Built on the host for each
// launch and passed by value. The driver's function is asked for by name, so that nothing links
// with the driver.

#include <cuda.h>

#include <array>

#include "kernels/cuda/launch.cuh"
#include "tensor/paged.h"

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

template <int kRank>
CUtensorMap tensor_map(const TensorMapSpec<kRank>& spec, int element_bytes,
                       CUtensorMapL2promotion fetched = CU_TENSOR_MAP_L2_PROMOTION_L2_256B) {
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
  const bool narrow = static_cast<int>(spec.box[0]) * element_bytes == 64;
  const CUresult status = encode(
      &map, element_bytes == 1 ? CU_TENSOR_MAP_DATA_TYPE_UINT8 : CU_TENSOR_MAP_DATA_TYPE_UINT16,
      kRank, const_cast<void*>(spec.base), spec.dims.data(), spec.strides.data(), spec.box.data(),
      steps.data(), CU_TENSOR_MAP_INTERLEAVE_NONE,
      narrow ? CU_TENSOR_MAP_SWIZZLE_64B : CU_TENSOR_MAP_SWIZZLE_128B, fetched,
      CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  CHECK(status == CUDA_SUCCESS, "tensor map of rank {} at {}, row of {}, stride {}: error {}",
        kRank, spec.base, spec.dims[0], spec.strides[0], static_cast<int>(status));
  return map;
}

// Rows that lie in pages, from `first`, which page 0's would be at granule 0: [granules]
// [page_tokens][width]. A table's entry (and a head's part of a page) is a coordinate: consecutive
// granules overlap, and nobody tells where the arena ends. `fetched`: what L2 brings in at once.
inline CUtensorMap page_map(const PagedView& kv, const std::byte* first, int32_t width,
                            int32_t box_tokens, int32_t box_width = 64,
                            CUtensorMapL2promotion fetched = CU_TENSOR_MAP_L2_PROMOTION_L2_256B) {
  const auto element = static_cast<cuuint64_t>(size_of(kv.dtype));
  return tensor_map<3>(
      {.base = first,
       .dims = {static_cast<cuuint64_t>(width), static_cast<cuuint64_t>(kv.page_tokens),
                cuuint64_t{1} << 31},
       .strides = {static_cast<cuuint64_t>(width) * element, kGranuleBytes},
       .box = {static_cast<cuuint32_t>(box_width), static_cast<cuuint32_t>(box_tokens), 1}},
      static_cast<int>(element), fetched);
}

}  // namespace ashlar::cuda
