#pragma once

// The end of every body that splits: states become rows in the kernel that leaves them.
//
// The blocks whose last work belongs to a tile merge a part of its rows each, once all its states
// have come: works count themselves in, in a counter of the tile that only grows, by the same
// number every launch. Blocks that wait must all run at once, so such a launch is a cooperative
// one; where they are too many for the device, the same is done by a kernel after it.
//
// How a body hooks in: it calls merge_rows() after each work, with shared memory that it no longer
// needs if that was its last, and is started by launch_merging().

#include <cuda_runtime.h>

#include "kernels/attention/cuda/attention_cuda.h"
#include "kernels/attention/cuda/state.cuh"
#include "kernels/cuda/launch.cuh"

namespace ashlar::cuda {

// What merging needs of a launch. Small and in a loop all through: where this code runs it is met
// for the first time, and comes from memory.
struct MergeArgs {
  const CudaMerge* merges;  // null: nothing is merged in this kernel
  uint32_t* counters;       // of merges
  const float* states;
  int rows;  // of a state
  int heads;
  int v_dim;  // a multiple of 4
  float v_scale;
  const float* sinks;
  void* out;
  bool is_bf16;
  int n_merges;
};

// What a block has to merge in: its threads' number, barrier and memory.
template <int kThreads_, class Sync>
struct MergeBlock {
  static constexpr int kThreads = kThreads_;
  Sync sync;          // of those threads, numbers 0 to kThreads - 1 of the block
  std::byte* memory;  // shared, aligned to 16
  int n_bytes;
  int neighbour = 0;  // where several blocks do a work together, each some of its rows
  int n_neighbours = 1;
};

// Four columns of a row at a time, state after state.
struct RowSum {
  float m, d, o[4];

  __device__ void clear() { m = -CUDART_INF_F, d = o[0] = o[1] = o[2] = o[3] = 0; }
  __device__ void add(const float* row, int column) {
    const float2 sums = *reinterpret_cast<const float2*>(row);
    const float4 values = *reinterpret_cast<const float4*>(row + kStateHead + column);
    const Fold fold(m, sums.x);
    m = fold.m;
    d = fold(d, sums.y);
    o[0] = fold(o[0], values.x), o[1] = fold(o[1], values.y);
    o[2] = fold(o[2], values.z), o[3] = fold(o[3], values.w);
  }
};

__device__ inline void store_row(const MergeArgs& args, const CudaMerge& merge, int row, int column,
                                 const RowSum& sum) {
  const int head = merge.head_begin + row % merge.n_heads;
  const int64_t token = merge.q_begin + merge.token_begin + row / merge.n_heads;
  const float factor = final_factor(sum.m, sum.d, sink_of(args.sinks, head), args.v_scale);
  const int64_t at = (token * args.heads + head) * args.v_dim + column;
  store_pair(args.out, args.is_bf16, at, sum.o[0] * factor, sum.o[1] * factor);
  store_pair(args.out, args.is_bf16, at + 2, sum.o[2] * factor, sum.o[3] * factor);
}

// Merges rows [begin, end): as many at a time as fit, or one row, some states after the others.
template <class Block>
__device__ void merge_range(const MergeArgs& args, const CudaMerge& merge, const Block& block,
                            int begin, int end) {
  const int row_floats = kStateHead + args.v_dim, row_units = row_floats / 4;
  const int n_fit = block.n_bytes / (row_floats * static_cast<int>(sizeof(float)));
  const int n_rows = max(1, min(end - begin, n_fit / merge.n_states));
  const int n_states = min(merge.n_states, n_fit / n_rows);
  const float* shared = reinterpret_cast<const float*>(block.memory);
  const int thread = static_cast<int>(threadIdx.x), quads = args.v_dim / 4;
  RowSum sum;
  for (int row = begin; row < end; row += n_rows) {
    const int n = min(n_rows, end - row), units = n * row_units;
    for (int first = 0; first < merge.n_states; first += n_states) {
      const int n_here = min(n_states, merge.n_states - first);
      for (int state = 0; state < n_here; ++state) {
        const float* from =
            args.states + (int64_t{merge.state + first + state} * args.rows + row) * row_floats;
        const uint32_t to = shared_address(block.memory) + state * units * 16;
        for (int i = thread; i < units; i += Block::kThreads)
          copy_async_16(to + i * 16, from + i * 4, true);
      }
      copy_async_commit();
      copy_async_wait<0>();
      block.sync();
      for (int i = thread; i < n * quads; i += Block::kThreads) {
        const int column = i % quads * 4;
        if (first == 0) sum.clear();
        for (int state = 0; state < n_here; ++state)
          sum.add(shared + (state * n + i / quads) * row_floats, column);
        if (first + n_here == merge.n_states) store_row(args, merge, row + i / quads, column, sum);
      }
      block.sync();
    }
  }
}

// Counts a work in, all of whose states are written; returns what its tile's counter shows when all
// of them are.
__device__ inline uint32_t count_in(uint32_t* counter, uint32_t n_works) {
  __threadfence();
  return (atomicAdd(counter, 1u) / n_works + 1) * n_works;
}
__device__ inline void wait_for_all(const uint32_t* counter, uint32_t end) {
  uint32_t now = 0;
  do {
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(now) : "l"(counter) : "memory");
  } while (static_cast<int>(now - end) < 0);
}

// After a work that may have left states: all of the block's threads. Where the work is the block's
// last, merges its part of the tile.
template <class Block>
__device__ __noinline__ void merge_rows(const MergeArgs& args, int index, int work_part,
                                        const Block& block) {
  const CudaMerge& merge = args.merges[index];
  const int n = block.n_neighbours;
  block.sync();  // everybody's states are written
  if (threadIdx.x == 0) {
    const uint32_t end = count_in(args.counters + index, merge.n_works * n);
    if (work_part >= 0) wait_for_all(args.counters + index, end);
  }
  if (work_part < 0) return;
  block.sync();
  const int n_rows = (merge.token_end - merge.token_begin) * merge.n_heads;
  const int part = work_part * n + block.neighbour, n_parts = merge.n_parts * n;
  merge_range(args, merge, block, n_rows * part / n_parts, n_rows * (part + 1) / n_parts);
}
template <class Block>
__device__ void merge_rows(const MergeArgs& args, const CudaWork& work, const Block& block) {
  if (args.merges && work.state >= 0) merge_rows(args, work.merge, work.part, block);
}

// Of a plan whose image and states lie in params.workspace. `v_scale` multiplies the result.
MergeArgs merge_args(const CudaPlan& plan, const AttnParams& params, float v_scale);

// Merges after a kernel that did not.
void merge_after(const MergeArgs& merge, CUstream_st* stream);

// Starts a kernel of a block for each of the plan's (or n_neighbours), whose first argument has a
// MergeArgs `merge`, and sees to it that rows are merged: there, or where its blocks do not all run
// at once, after it.
template <class Args, class... More>
void launch_merging(void (*kernel)(Args, More...), int n_blocks, int threads, int shared_bytes,
                    CUstream_st* stream, Args args, More... more) {
  const MergeArgs merge = args.merge;
  bool inside = merge.merges != nullptr;
  if (inside) {
    int device = 0, n_sms = 0, per_sm = 0;
    CHECK_CUDA(cudaGetDevice(&device));
    CHECK_CUDA(cudaDeviceGetAttribute(&n_sms, cudaDevAttrMultiProcessorCount, device));
    CHECK_CUDA(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&per_sm, kernel, threads,
                                                             static_cast<size_t>(shared_bytes)));
    inside = n_blocks <= per_sm * n_sms;
  }
  if (!inside) args.merge.merges = nullptr;
  cudaLaunchAttribute together{};
  together.id = cudaLaunchAttributeCooperative;
  together.val.cooperative = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = static_cast<unsigned>(n_blocks);
  config.blockDim = static_cast<unsigned>(threads);
  config.dynamicSmemBytes = static_cast<size_t>(shared_bytes);
  config.stream = stream;
  config.attrs = &together;
  config.numAttrs = inside ? 1 : 0;
  CHECK_CUDA(cudaLaunchKernelEx(&config, kernel, args, more...));
  if (merge.merges && !inside) merge_after(merge, stream);
}

}  // namespace ashlar::cuda
