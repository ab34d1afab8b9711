#pragma once

// How kernels are started: every refusal ends the program.

#include <cuda_runtime.h>

#include "base/check.h"

#define CHECK_CUDA(call)                                                     \
  do {                                                                       \
    const cudaError_t error = (call);                                        \
    CHECK(error == cudaSuccess, "{}: {}", #call, cudaGetErrorString(error)); \
  } while (false)

namespace ashlar::cuda {

// Starts a kernel that begins with wait_for_dependencies(): on devices that can, beside the end of
// the kernel before it.
template <class Args>
void launch_dependent(void (*kernel)(Args), dim3 grid, unsigned threads, cudaStream_t stream,
                      const Args& args) {
  int device = 0, major = 0;
  CHECK_CUDA(cudaGetDevice(&device));
  CHECK_CUDA(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = threads;
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = major >= 9 ? 1 : 0;
  CHECK_CUDA(cudaLaunchKernelEx(&config, kernel, args));
}

}  // namespace ashlar::cuda
