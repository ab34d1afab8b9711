// upload(), and merging after a kernel.

#include "kernels/attention/cuda/merge.cuh"

namespace ashlar {
namespace cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kSharedBytes = 48 * 1024;

// A block for each row of each merge.
__global__ void __launch_bounds__(kThreads) merge_tiles(const MergeArgs args) {
  extern __shared__ __align__(16) std::byte shared[];
  const CudaMerge& merge = args.merges[blockIdx.x];
  const auto sync = [] { __syncthreads(); };
  const int row = static_cast<int>(blockIdx.y);
  if (row >= (merge.token_end - merge.token_begin) * merge.n_heads) return;
  merge_range(args, merge, MergeBlock<kThreads, decltype(sync)>{sync, shared, kSharedBytes}, row,
              row + 1);
}

}  // namespace

MergeArgs merge_args(const CudaPlan& plan, const AttnParams& params, float v_scale) {
  std::byte* workspace = params.workspace.data();
  if (plan.n_merges == 0) return {};
  CHECK(plan.shape.v_dim % 4 == 0 && plan.shape.v_dim <= 4 * kThreads, "v_dim {}",
        plan.shape.v_dim);
  return {.merges = reinterpret_cast<const CudaMerge*>(workspace + plan.merges_offset),
          .counters = reinterpret_cast<uint32_t*>(workspace + plan.counters_offset),
          .states = reinterpret_cast<float*>(workspace + plan.states_offset),
          .rows = plan.tiling.rows,
          .heads = plan.shape.heads,
          .v_dim = plan.shape.v_dim,
          .v_scale = v_scale,
          .sinks = params.sinks,
          .out = params.out.data,
          .is_bf16 = params.out.dtype == DType::bf16,
          .n_merges = plan.n_merges};
}

void merge_after(const MergeArgs& merge, CUstream_st* stream) {
  const dim3 grid(static_cast<unsigned>(merge.n_merges), static_cast<unsigned>(merge.rows));
  merge_tiles<<<grid, kThreads, kSharedBytes, stream>>>(merge);
  CHECK_CUDA(cudaGetLastError());
}

}  // namespace cuda

void upload(const CudaPlan& plan, std::byte* workspace, CUstream_st* stream) {
  CHECK_CUDA(cudaMemcpyAsync(workspace, plan.image.data(), plan.image.size(),
                             cudaMemcpyHostToDevice, stream));
}

}  // namespace ashlar
