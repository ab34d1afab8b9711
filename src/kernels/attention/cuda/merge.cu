// upload() and merge_states().

#include <cuda_runtime.h>

#include "kernels/attention/cuda/attention_cuda.h"
#include "kernels/attention/cuda/state.cuh"
#include "kernels/cuda/launch.cuh"

namespace ashlar {
namespace {

constexpr int kBatch = 4;      // states whose reads are in flight together
constexpr int kThreads = 256;  // at most
constexpr int kMinBlocks = 6;  // of a multiprocessor: the rest of what is in flight

struct MergeArgs {
  const CudaMerge* merges;
  const float* states;
  int rows;  // of a state
  int heads;
  int v_dim;
  float v_scale;
  const float* sinks;
  void* out;
  bool is_bf16;
};

// A block per row of a merge, a thread per two of its elements.
__global__ void __launch_bounds__(kThreads, kMinBlocks) merge_rows(const MergeArgs args) {
  cuda::wait_for_dependencies();
  const CudaMerge merge = args.merges[blockIdx.x];
  const int row = static_cast<int>(blockIdx.y);
  if (row >= (merge.token_end - merge.token_begin) * merge.n_heads) return;
  const int dim = 2 * static_cast<int>(threadIdx.x);
  if (dim >= args.v_dim) return;
  const int64_t row_floats = 2 + args.v_dim, state_floats = args.rows * row_floats;
  const float* from = args.states + merge.state * state_floats + row * row_floats;

  float m = -CUDART_INF_F, d = 0, low = 0, high = 0;
  for (int begin = 0; begin < merge.n_states; begin += kBatch, from += kBatch * state_floats) {
    float2 sums[kBatch], values[kBatch];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      if (begin + i >= merge.n_states) continue;
      sums[i] = *reinterpret_cast<const float2*>(from + i * state_floats);
      values[i] = *reinterpret_cast<const float2*>(from + i * state_floats + 2 + dim);
    }
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      if (begin + i >= merge.n_states) continue;
      const cuda::Fold fold(m, sums[i].x);
      m = fold.m;
      d = fold(d, sums[i].y);
      low = fold(low, values[i].x);
      high = fold(high, values[i].y);
    }
  }
  const int head = merge.head_begin + row % merge.n_heads;
  const int64_t token = merge.q_begin + merge.token_begin + row / merge.n_heads;
  const float factor = cuda::final_factor(m, d, cuda::sink_of(args.sinks, head), args.v_scale);
  cuda::store_pair(args.out, args.is_bf16, (token * args.heads + head) * args.v_dim + dim,
                   low * factor, high * factor);
}

}  // namespace

void upload(const CudaPlan& plan, std::byte* workspace, CUstream_st* stream) {
  CHECK_CUDA(cudaMemcpyAsync(workspace, plan.image.data(), plan.image.size(),
                             cudaMemcpyHostToDevice, stream));
}

void merge_states(const CudaPlan& plan, const AttnParams& params, float v_scale,
                  CUstream_st* stream) {
  if (plan.n_merges == 0) return;
  CHECK(plan.shape.v_dim % 2 == 0 && plan.shape.v_dim <= 2 * kThreads, "v_dim {}",
        plan.shape.v_dim);
  const std::byte* workspace = params.workspace.data();
  const MergeArgs args{
      .merges = reinterpret_cast<const CudaMerge*>(workspace + plan.merges_offset),
      .states = reinterpret_cast<const float*>(workspace + plan.states_offset),
      .rows = plan.tiling.rows,
      .heads = plan.shape.heads,
      .v_dim = plan.shape.v_dim,
      .v_scale = v_scale,
      .sinks = params.sinks,
      .out = params.out.data,
      .is_bf16 = params.out.dtype == DType::bf16,
  };
  const dim3 grid(static_cast<unsigned>(plan.n_merges), static_cast<unsigned>(plan.tiling.rows));
  const auto threads = static_cast<unsigned>((plan.shape.v_dim / 2 + 31) / 32 * 32);
  cuda::launch_dependent(merge_rows, grid, threads, stream, args);
}

}  // namespace ashlar
