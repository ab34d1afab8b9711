#pragma once

// Attention on CUDA: the contract of attention.h with q, out, pages, sinks and page tables in
// device memory, and the step's plan made on the host and copied once.
//
//   q    [T, H, k_dim] bf16 or f16, dense
//   out  [T, H, v_dim] of q's dtype, dense
//   kv   pages of q's dtype, f8e4m3 or f8e5m2 (with one scale, or scales of each token and head)
//
// The KV range is cut into splits at fixed absolute positions. Each split is summed from nothing;
// states are added in the order of their splits, first within groups of splits, then group after
// group, whoever does it: a row's bits depend on its own sequence and on the body, never on the
// batch, nor on the number of multiprocessors.
//
// plan_cuda() once per step and group, upload() once per plan, a body's run() per layer. Queued on
// a stream; nothing waits, allocates device memory or reads the environment. A launch the device
// refuses ends the program.

#include <span>
#include <vector>

#include "kernels/attention/attention.h"

struct CUstream_st;  // cudaStream_t without CUDA's headers

namespace ashlar {

// How a body cuts its work.
struct CudaTiling {
  int32_t rows = 16;       // query rows (tokens * heads of one KV head) a block walks together
  int32_t kv_split = 512;  // tokens summed into one state; 0: the whole range, never split
  int32_t blocks_per_sm = 1;
  int32_t group = 1;  // splits whose sum is added to the rest as one
};

// What one block does at a time: the rows of tokens [token_begin, token_end) of a sequence and
// heads [head_begin, head_begin + n_heads), which share a KV head, over splits [split_begin,
// split_end).
struct CudaWork {
  int32_t seq = 0;
  int32_t head_begin = 0;
  int32_t n_heads = 0;
  int32_t token_begin = 0;
  int32_t token_end = 0;
  int32_t kv_begin = 0;  // positions some row sees, cut to the splits of this work
  int32_t kv_end = 0;
  // The first of its states: -1 when it holds every split, and writes `out`. A work leaves a state
  // for each split of a group that began before it (its d negated, to say so), and one for each
  // other group or part of one; but one for all whole groups if it starts at the rows' first split.
  int32_t state = -1;
  int32_t first = 1;  // 1: holds the rows' first split; no bool, for its padding would be copied
  // Of the sequence, so that a block needs one read before it can ask for pages:
  int32_t q_begin = 0;
  int32_t q_position = 0;  // where its first query stands
  int32_t kv_len = 0;
  int32_t kv_head = 0;
  // r / n_heads == r * heads_inverse >> 16 for every r < 256 where n_heads <= 128.
  int32_t heads_inverse = 0;
  const uint32_t* pages = nullptr;
};
static_assert(sizeof(CudaWork) == 64);

// Rows whose splits are divided among works: states [state, state + n_states), in order.
struct CudaMerge {
  int32_t seq = 0;
  int32_t head_begin = 0;
  int32_t n_heads = 0;
  int32_t token_begin = 0;
  int32_t token_end = 0;
  int32_t state = 0;
  int32_t n_states = 0;
  int32_t q_begin = 0;  // of the sequence
};

// One step's plan. The image is what the device reads, and lies at the start of the workspace:
// AttnSeq[n_seqs], CudaWork[n_works], CudaMerge[n_merges], int32 queue ends [n_blocks + 1].
// A state is [rows][2 + v_dim] f32: m (log2 domain), d (negative: the state continues a group),
// then o not yet divided.
struct CudaPlan {
  AttnShape shape;
  CudaTiling tiling;
  int32_t n_seqs = 0;
  int32_t n_works = 0;
  int32_t n_merges = 0;
  int32_t most_states = 0;  // of a merge
  int32_t n_blocks = 0;     // block b does works [queue[b], queue[b + 1])
  int64_t works_offset = 0;
  int64_t merges_offset = 0;
  int64_t queue_offset = 0;
  int64_t states_offset = 0;
  int64_t state_bytes = 0;
  int64_t workspace_bytes = 0;  // image and states
  std::vector<std::byte> image;
};

// seqs[i].pages are device pointers; everything else is read on the host. REQUIRES what
// plan_attention() requires, any number of queries per KV head.
CudaPlan plan_cuda(const AttnShape& shape, const CudaTiling& tiling, std::span<const AttnSeq> seqs,
                   int n_sms);

// Copies the image to the workspace; the plan must live until the stream has passed this point.
void upload(const CudaPlan& plan, std::byte* workspace, CUstream_st* stream);

// Device pointers in params; params.workspace begins with the plan's image. compute is ignored:
// products are of q's dtype (f16 for FP8 pages), sums are f32.
using CudaAttentionFn = void (*)(const CudaPlan&, const AttnParams&, CUstream_st*);

// Any widths, dtypes and device from sm_80; every other body's check on long inputs.
void attention_cuda_plain(const CudaPlan& plan, const AttnParams& params, CUstream_st* stream);

// Tensor cores of sm_80 and later (mma.sync), K and V copied asynchronously straight from the
// pages. Takes the listed widths (k/v 64/64, 96/96, 128/128, 192/128, 256/256, 48/32), pages of
// 16, 32, 64 ... tokens of q's dtype or FP8 whose K and V begin at multiples of 16 bytes, and the
// two tilings below.
void attention_cuda_mma(const CudaPlan& plan, const AttnParams& params, CUstream_st* stream);

// What its blocks take of shared memory, at most.
constexpr int32_t mma_shared_kib(int32_t k_dim) {
  return k_dim > 192 ? 182 : k_dim > 128 ? 113 : 93;
}

// Why attention_cuda_mma does not take these, or ok.
Status mma_takes(const AttnShape& shape, const PagedView& kv, DType q);

// For steps of few query tokens: 16 rows read K and V together, long ranges are split.
CudaTiling mma_decode_tiling(const AttnShape& shape);
// For prompts: 64 rows read K and V together, nothing is split.
CudaTiling mma_prefill_tiling(const AttnShape& shape);

// Adds a plan's states in order and writes the rows of its merges to params.out: the second launch
// of every body whose plan has merges. `v_scale` multiplies the result.
void merge_states(const CudaPlan& plan, const AttnParams& params, float v_scale,
                  CUstream_st* stream);

// KvWriteParams with k, v (bf16, f16 or f32; v_dim 0: k alone) and pages in device memory. The
// sequences are the plan's (params.seqs is not looked at), in the order of their rows; its image
// lies at `workspace`. `stats` is not kept here and must be null.
void kv_write_cuda(const CudaPlan& plan, const KvWriteParams& params, const std::byte* workspace,
                   CUstream_st* stream);

}  // namespace ashlar
