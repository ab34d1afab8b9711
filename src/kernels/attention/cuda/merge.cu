// upload() and merge_states().

#include <cuda_runtime.h>

#include "kernels/attention/cuda/attention_cuda.h"
#include "kernels/attention/cuda/state.cuh"
#include "kernels/cuda/launch.cuh"

namespace ashlar {
namespace {

constexpr int kMaxThreads = 256;  // v_dim 512
constexpr int kBatch = 16;        // states whose reads are in flight together

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

// A row's sums, of two of its elements.
struct Sum {
  float m, d, low, high;

  __device__ static Sum nothing() { return {-CUDART_INF_F, 0, 0, 0}; }
  __device__ void add(const Sum& comes) {
    const cuda::Fold fold(m, comes.m);
    m = fold.m;
    d = fold(d, comes.d);
    low = fold(low, comes.low);
    high = fold(high, comes.high);
  }
};

// Not from the L1 cache, which may have what was there before.
__device__ float2 read_pair(const float* from) {
  float2 pair;
  asm volatile("ld.global.cg.v2.f32 {%0, %1}, [%2];" : "=f"(pair.x), "=f"(pair.y) : "l"(from));
  return pair;
}

// Two elements of a row over n states, `step` floats apart.
__device__ Sum sum_states(const float* sums_at, const float* values_at, int n, int64_t step) {
  Sum total = Sum::nothing(), group = Sum::nothing();
#pragma unroll 1
  for (int begin = 0; begin < n; begin += kBatch) {
    float2 sums[kBatch], values[kBatch];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      if (begin + i >= n) continue;
      sums[i] = read_pair(sums_at + (begin + i) * step);
      values[i] = read_pair(values_at + (begin + i) * step);
    }
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      if (begin + i >= n) continue;
      if (!signbit(sums[i].y)) total.add(group), group = Sum::nothing();  // a group opens
      group.add({sums[i].x, fabsf(sums[i].y), values[i].x, values[i].y});
    }
  }
  total.add(group);
  return total;
}

// A block per row of a merge, a thread per two of its elements.
__global__ void __launch_bounds__(kMaxThreads, 2) merge_rows(const MergeArgs args) {
  const CudaMerge merge = args.merges[blockIdx.x];
  const int row = static_cast<int>(blockIdx.y);
  if (row >= (merge.token_end - merge.token_begin) * merge.n_heads) return;
  const int dim = 2 * static_cast<int>(threadIdx.x);
  if (dim >= args.v_dim) return;
  const int head = merge.head_begin + row % merge.n_heads;
  const int64_t token = merge.q_begin + merge.token_begin + row / merge.n_heads;
  const float sink = cuda::sink_of(args.sinks, head);
  const int64_t row_floats = 2 + args.v_dim, state_floats = args.rows * row_floats;
  const float* from = args.states + merge.state * state_floats + row * row_floats;
  // Everything but the states was there before the kernel that leaves them. Beside its end this one
  // rehearses on whatever is there, which brings its instructions and the states' addresses near.
#pragma unroll 1
  for (const bool is_rehearsal : {true, false}) {
    if (!is_rehearsal) cuda::wait_for_dependencies();
    const Sum sum = sum_states(from, from + 2 + dim, merge.n_states, state_floats);
    const float factor = cuda::final_factor(sum.m, sum.d, sink, args.v_scale);
    if (!is_rehearsal)
      cuda::store_pair(args.out, args.is_bf16, (token * args.heads + head) * args.v_dim + dim,
                       sum.low * factor, sum.high * factor);
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
  CHECK(plan.shape.v_dim % 2 == 0 && plan.shape.v_dim <= 2 * kMaxThreads, "v_dim {}",
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
