// upload() and merge_states().

#include <cuda_runtime.h>

#include "kernels/attention/cuda/attention_cuda.h"
#include "kernels/attention/cuda/state.cuh"
#include "kernels/cuda/launch.cuh"

namespace ashlar {
namespace {

constexpr int kMaxThreads = 256;  // v_dim 512

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

// A row's sums, of two elements in every 2 * blockDim.x.
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

// A block per row of a merge; the reads of kBatch states are in flight together. Its code is cold
// each time, hence short: larger batches, and loops through shared memory, both took longer.
template <int kPairs, int kBatch, bool kGroups>
__global__ void __launch_bounds__(kMaxThreads / kPairs, 4) merge_rows(const MergeArgs args) {
  const CudaMerge merge = args.merges[blockIdx.x];
  const int row = static_cast<int>(blockIdx.y);
  if (row >= (merge.token_end - merge.token_begin) * merge.n_heads) return;
  const int thread = static_cast<int>(threadIdx.x), n_pairs = args.v_dim / 2;
  const auto pair_of = [&](int i) { return thread + i * static_cast<int>(blockDim.x); };
  // Everything but the states was there before the kernel that leaves them.
  const int head = merge.head_begin + row % merge.n_heads;
  const int64_t token = merge.q_begin + merge.token_begin + row / merge.n_heads;
  const float sink = cuda::sink_of(args.sinks, head);
  cuda::wait_for_dependencies();
  const int64_t row_pairs = 1 + n_pairs, state_pairs = args.rows * row_pairs;
  const auto* from =
      reinterpret_cast<const float2*>(args.states) + merge.state * state_pairs + row * row_pairs;

  Sum<kPairs> total, group;
  total.clear(), group.clear();
#pragma unroll 1
  for (int begin = 0; begin < merge.n_states; begin += kBatch, from += kBatch * state_pairs) {
    Sum<kPairs> states[kBatch];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      if (begin + i >= merge.n_states) continue;
      const float2 sums = from[i * state_pairs];
      states[i].m = sums.x, states[i].d = sums.y;
#pragma unroll
      for (int k = 0; k < kPairs; ++k)
        if (pair_of(k) < n_pairs) states[i].o[k] = from[i * state_pairs + 1 + pair_of(k)];
    }
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      if (begin + i >= merge.n_states) continue;
      if constexpr (kGroups) {
        if (!signbit(states[i].d)) total.add(group), group.clear();  // a group opens
        states[i].d = fabsf(states[i].d);
        group.add(states[i]);
      } else {
        total.add(states[i]);
      }
    }
  }
  if constexpr (kGroups) total.add(group);
  const float factor = cuda::final_factor(total.m, total.d, sink, args.v_scale);
#pragma unroll
  for (int k = 0; k < kPairs; ++k) {
    if (pair_of(k) < n_pairs)
      cuda::store_pair(args.out, args.is_bf16,
                       (token * args.heads + head) * args.v_dim + 2 * pair_of(k),
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
  CHECK(v_dim % 2 == 0 && v_dim <= 2 * kMaxThreads, "v_dim {}", v_dim);
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
  // Wide rows of few states, of which there are many: less to do for a thread than to start it.
  constexpr int kFew = 2, kWide = 128;
  const bool few = plan.most_states <= kFew && v_dim > kWide, groups = plan.tiling.group > 1;
  const auto kernel = few ? (groups ? merge_rows<4, kFew, true> : merge_rows<4, kFew, false>)
                          : (groups ? merge_rows<1, 8, true> : merge_rows<1, 8, false>);
  const auto threads = static_cast<unsigned>((v_dim / (few ? 8 : 2) + 31) / 32 * 32);
  cuda::launch_dependent(kernel, grid, threads, stream, args);
}

}  // namespace ashlar
