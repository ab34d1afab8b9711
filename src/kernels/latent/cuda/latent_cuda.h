#pragma once

// Latent attention on CUDA, for decoding: the contract of latent.h (one row per position, a latent
// of 512 and a rotated part of 64; the latent is key and value) on the plan of attention_cuda.h.
//
//   q    [T, H, 576] bf16 or f16, dense, any number of heads, any number of tokens per sequence
//   out  [T, H, 512] of q's dtype, dense
//   kv   pages of q's dtype, f8e4m3 or f8e5m2; of 16, 32 or 64 tokens; k_offset_bytes a multiple of
//        16
//
// FP8 rows are multiplied as f16 (see f8.cuh): exactly what they stand for, without kv.k_scale,
// which is applied to scores and to what is written.
//
// plan_latent_cuda() once per step and group, upload() once per plan, run() per layer, on a
// stream; the laws and the manners are those of attention_cuda.h.

#include "kernels/attention/cuda/attention_cuda.h"
#include "kernels/latent/latent.h"

namespace ashlar {

constexpr int32_t kLatentWidth = 512;
constexpr int32_t kLatentRope = 64;

// Device pointers in params; params.workspace begins with the plan's image. compute is ignored.
using CudaLatentFn = void (*)(const CudaPlan&, const LatentParams&, CUstream_st*);

// One body. A row's bits depend on which body computes it: choose once for a model.
struct CudaLatentBody {
  const char* name = "";
  CudaLatentFn run = nullptr;
  int32_t rows = 0;         // of one block; a work of more is walked by several
  int64_t block_bytes = 0;  // of scratch for each block, after the plan's states
  CudaTiling (*tiling)(int32_t heads, DType stored) = nullptr;
};

// 16 rows at a time by warp products; sm_80 and later with 163 KiB of shared memory a block. Reads
// the cache once for every 16 rows: for few heads.
CudaLatentBody latent_cuda_mma();

// 64 rows at a time by warpgroup products, two blocks side by side beyond that; sm_90a. For many
// heads, or a few times several tokens.
CudaLatentBody latent_cuda_wgmma();

// The plan of a body over pages of `stored`; its workspace_bytes include the body's scratch.
CudaPlan plan_latent_cuda(const CudaLatentBody& body, const LatentShape& shape, DType stored,
                          std::span<const AttnSeq> seqs, int n_sms);

}  // namespace ashlar
