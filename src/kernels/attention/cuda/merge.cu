// upload() and merge_states().

#include <cuda_runtime.h>

#include <algorithm>

#include "kernels/attention/cuda/attention_cuda.h"
#include "kernels/attention/cuda/state.cuh"
#include "kernels/cuda/launch.cuh"

namespace ashlar {
namespace {

constexpr int kThreads = 64;
constexpr int kWidePairs = 4;  // of a thread, where rows are wider than 2 * kThreads
constexpr int kBatch = 16;     // states whose reads are in flight together

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

// A row's sums, of two elements in every 2 * kThreads.
template <int kPairs>
struct Sum {
  float m, d;
  float2 o[kPairs];

  __device__ void clear() {
    m = -CUDART_INF_F, d = 0;
#pragma unroll
    for (float2& pair : o) pair = make_float2(0, 0);
  }
  __device__ void add(const Sum& comes) {
    const cuda::Fold fold(m, comes.m);
    m = fold.m;
    d = fold(d, comes.d);
#pragma unroll
    for (int i = 0; i < kPairs; ++i)
      o[i] = make_float2(fold(o[i].x, comes.o[i].x), fold(o[i].y, comes.o[i].y));
  }
};

__device__ inline void copy_async_8(float2* to, const float2* from) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 8;" ::"r"(cuda::shared_address(to)),
               "l"(from));
}

// A block per row of a merge. States come through shared memory, where each thread has a column of
// its own, [state][m and d, pairs][thread]: all are on their way at once, and loops stay loops. For
// the code is cold each time, and a batch in registers, unrolled, waits longer for instructions
// than for states.
template <int kPairs>
__global__ void __launch_bounds__(kThreads) merge_rows(const MergeArgs args) {
  extern __shared__ float2 shared[];
  const CudaMerge merge = args.merges[blockIdx.x];
  const int row = static_cast<int>(blockIdx.y);
  if (row >= (merge.token_end - merge.token_begin) * merge.n_heads) return;
  const int thread = static_cast<int>(threadIdx.x), n_pairs = args.v_dim / 2;
  // Everything but the states was there before the kernel that leaves them.
  const int head = merge.head_begin + row % merge.n_heads;
  const int64_t token = merge.q_begin + merge.token_begin + row / merge.n_heads;
  const float sink = cuda::sink_of(args.sinks, head);
  cuda::wait_for_dependencies();
  const int64_t row_pairs = 1 + n_pairs, state_pairs = args.rows * row_pairs;
  const auto* from =
      reinterpret_cast<const float2*>(args.states) + merge.state * state_pairs + row * row_pairs;
  float2* own = shared + thread;

  Sum<kPairs> total, group;
  total.clear(), group.clear();
#pragma unroll 1
  for (int begin = 0; begin < merge.n_states; begin += kBatch) {
    const int n = min(kBatch, merge.n_states - begin);
#pragma unroll 1
    for (int i = 0; i < n; ++i, from += state_pairs) {
      float2* to = own + i * (1 + kPairs) * kThreads;
      copy_async_8(to, from);
#pragma unroll
      for (int k = 0; k < kPairs; ++k) {
        const int pair = thread + k * kThreads;
        if (pair < n_pairs) copy_async_8(to + (1 + k) * kThreads, from + 1 + pair);
      }
    }
    cuda::copy_async_commit();
    cuda::copy_async_wait<0>();
#pragma unroll 2
    for (int i = 0; i < n; ++i) {
      const float2* state = own + i * (1 + kPairs) * kThreads;
      Sum<kPairs> sum{state->x, fabsf(state->y), {}};
#pragma unroll
      for (int k = 0; k < kPairs; ++k) sum.o[k] = state[(1 + k) * kThreads];
      if (signbit(state->y)) {
        group.add(sum);
      } else {  // a group opens
        total.add(group);
        group = sum;
      }
    }
  }
  total.add(group);
  const float factor = cuda::final_factor(total.m, total.d, sink, args.v_scale);
#pragma unroll
  for (int k = 0; k < kPairs; ++k) {
    const int pair = thread + k * kThreads;
    if (pair < n_pairs)
      cuda::store_pair(args.out, args.is_bf16, (token * args.heads + head) * args.v_dim + 2 * pair,
                       total.o[k].x * factor, total.o[k].y * factor);
  }
}

}  // namespace

void upload(const CudaPlan& plan, std::byte* workspace, CUstream_st* stream) {
  CHECK_CUDA(cudaMemcpyAsync(workspace, plan.image.data(), plan.image.size(),
                             cudaMemcpyHostToDevice, stream));
}

void merge_states(const CudaPlan& plan, const AttnParams& params, float v_scale,
                  CUstream_st* stream) {
  if (plan.n_merges == 0) return;
  const int v_dim = plan.shape.v_dim;
  CHECK(v_dim % 2 == 0 && v_dim <= 2 * kWidePairs * kThreads, "v_dim {}", v_dim);
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
  const bool narrow = v_dim <= 2 * kThreads;
  const int pairs = narrow ? 1 : kWidePairs;
  const int bytes = std::min(plan.most_states, kBatch) * (1 + pairs) * kThreads * 8;
  cuda::launch_dependent(narrow ? merge_rows<1> : merge_rows<kWidePairs>, grid, kThreads, stream,
                         args, bytes);
}

}  // namespace ashlar
