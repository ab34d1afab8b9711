#pragma once

// What the CUDA bodies of latent attention read: the step, and where rows lie.

#include "kernels/cuda/mma.cuh"
#include "kernels/latent/cuda/latent_cuda.h"

namespace ashlar::cuda {

constexpr int kLatentQ = kLatentWidth + kLatentRope;  // width of q and of rows
constexpr int kStateHead = 2;                         // m and d, before a state's o
constexpr int kStateWidth = kStateHead + kLatentWidth;

// The arguments of a launch.
struct LatentArgs {
  const CudaWork* works;
  const int32_t* queue;   // null: a work a block, and one read less before it starts
  float* states;          // [state][rows][kStateWidth]
  void* scratch;          // of each block, as much as the body asked for
  const void* q;          // [T, H, 576]
  void* out;              // [T, H, 512]
  const std::byte* rows;  // base + k_offset_bytes of the pages
  int32_t heads;
  int32_t page_shift;  // log2 of a page's tokens
  int32_t blocks;      // that share a work's rows, neighbours in the grid
  int32_t tile_rows;   // the plan's tiling.rows
  int32_t kv_split;
  int32_t group;      // splits
  float score_scale;  // of dot products, in units of log 2; FP8's scale included
  float v_scale;      // FP8's scale
};

// Row `position` of a sequence whose page table is `pages`.
template <int kRowBytes>
__device__ inline const std::byte* row_at(const LatentArgs& args, uint32_t granule, int position) {
  const int slot = position & ((1 << args.page_shift) - 1);
  return args.rows + static_cast<int64_t>(granule) * kGranuleBytes + slot * kRowBytes;
}

// A row of a work: which token of the sequence and which head.
struct WorkRow {
  int32_t token;
  int32_t head;
};
__device__ inline WorkRow work_row(const CudaWork& work, int row) {
  return {work.token_begin + row / work.n_heads, work.head_begin + row % work.n_heads};
}
__device__ inline int work_rows(const CudaWork& work) {
  return (work.token_end - work.token_begin) * work.n_heads;
}

// The works of this block: [first_work, last_work).
__device__ inline int first_work(const LatentArgs& args) {
  const int block = static_cast<int>(blockIdx.x) / args.blocks;
  return args.queue ? args.queue[block] : block;
}
__device__ inline int last_work(const LatentArgs& args) {
  const int block = static_cast<int>(blockIdx.x) / args.blocks;
  return args.queue ? args.queue[block + 1] : block + 1;
}

// The power of two that brings a row of bf16 queries, of which `largest` is the greatest, into
// f16's range, up to 2^14, and the one that undoes it.
struct PowerOfTwo {
  float there, back;
  __device__ explicit PowerOfTwo(float largest) {
    constexpr uint32_t kUp = 13;
    const uint32_t exponent = max(__float_as_uint(largest) >> 23, kUp + 1);
    there = __uint_as_float((254 + kUp - exponent) << 23);
    back = __uint_as_float((exponent - kUp) << 23);
  }
};

}  // namespace ashlar::cuda
