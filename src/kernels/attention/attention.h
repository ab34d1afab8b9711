#pragma once

// Attention over paged K and V: one contract for prefill, chunked prefill and decode.
//
//   s[t, h, j] = scale * dot(q[t, h], k[j, h / (H/G)]);  softcap: s = softcap * tanh(s / softcap)
//   visible j of the row at position p: p - window < j, and j <= p when causal, else j < kv_len
//   out[t, h] = sum_j exp(s - m) v[j] / (sum_j exp(s - m) + exp(sink[h] - m))
//
// The sink is an extra logit without a value (it only takes probability), not scaled. K and V
// widths may differ. H / G (queries per KV head) is any number up to 64 and K and V are read once
// for the whole group. Pages may lie anywhere and be of any size; nothing outside a sequence's
// visible tokens is read.
//
// The KV range is cut at fixed absolute positions (kKvTile, kKvSplit) and merged in order, so a
// row's result does not depend on the batch, on chunking, on page size or on the number of threads:
// bit for bit, on one instruction set.
//
// plan_attention() once per step and group, attention() per layer. Engine thread. Kernels do not
// allocate.

#include <span>
#include <string>
#include <vector>

#include "base/pool.h"
#include "kernels/isa.h"
#include "tensor/paged.h"
#include "tensor/roof.h"
#include "tensor/view.h"

namespace ashlar {

constexpr int kMaxQueriesPerKvHead = 64;

// One sequence of a step. Row i of its q_len rows stands at position kv_len - q_len + i; the step's
// own K and V are already in the pages.
struct AttnSeq {
  int32_t q_begin = 0;  // its first row in q and out
  int32_t q_len = 0;
  int32_t kv_len = 0;               // tokens in the cache, this step's included
  const uint32_t* pages = nullptr;  // granule offset of the page of tokens [i * page_tokens, ...);
                                    // entries wholly behind the window are never read
};

// What all layers of a group share: enough to plan.
struct AttnShape {
  int32_t heads = 1;     // H
  int32_t kv_heads = 1;  // G, divides H
  int32_t k_dim = 0;
  int32_t v_dim = 0;
  int32_t window = 0;  // keys a query sees, itself included; 0: all
  bool causal = true;
  bool operator==(const AttnShape&) const = default;
};

// A block: the rows of consecutive tokens of one sequence that share a KV head, at most
// kMaxBlockRows, walked together so that K and V are read once for all of them.
constexpr int kMaxBlockRows = 64;
constexpr int kKvTile = 64;    // tokens of K and V brought close at a time
constexpr int kKvSplit = 512;  // tokens summed into one state {m, d, o} before states are merged

struct AttnBlock {
  int32_t seq = 0;
  int32_t kv_head = 0;
  int32_t token_begin = 0;  // tokens of the sequence's q_len
  int32_t token_end = 0;
  int32_t kv_begin = 0;  // positions some row of the block sees
  int32_t kv_end = 0;
  int64_t state_offset = -1;  // bytes into the workspace, where the states of its splits meet;
                              // -1: one task does the block alone and needs no meeting place
  int32_t split_begin() const { return kv_begin / kKvSplit; }
  int32_t split_end() const { return (kv_end + kKvSplit - 1) / kKvSplit; }
};

// What one thread does at a time: some of a block's splits.
struct AttnTask {
  int32_t block = 0;
  int32_t split_begin = 0;
  int32_t split_end = 0;
};

// The division of one step's attention into tasks. Host memory only; holds a copy of the sequences
// (not of their page tables). The same for every CPU instruction set.
struct AttnPlan {
  AttnShape shape;
  int n_threads = 1;
  std::vector<AttnSeq> seqs;
  std::vector<AttnBlock> blocks;
  std::vector<AttnTask> tasks;  // any order and any thread
  std::vector<int32_t> merges;  // blocks done by several tasks, merged after all of those
  int64_t scratch_bytes = 0;    // of one thread; the workspace is threads' scratch, then states
  int64_t workspace_bytes = 0;
};

// REQUIRES heads % kv_heads == 0, at most kMaxQueriesPerKvHead queries per KV head, q_len <=
// kv_len. A pool of at most n_threads may run the plan.
AttnPlan plan_attention(const AttnShape& shape, std::span<const AttnSeq> seqs, int n_threads);

// The plan as lines of text, for people.
std::string to_text(const AttnPlan& plan);

struct AttnParams {
  ConstView q;   // [T, H, k_dim] f32, dense
  View out;      // [T, H, v_dim] f32, dense
  PagedView kv;  // f32, bf16, f16, f8e4m3 or f8e5m2 pages
  float scale = 1.0f;
  float softcap = 0.0f;          // 0: none
  const float* sinks = nullptr;  // [H], nullable
  // f32, or bf16 (where fits_bf16(kv.dtype)): q is rounded to bf16, and so are the probabilities
  // where the instruction set multiplies in bf16.
  DType compute = DType::bf16;
  std::span<std::byte> workspace;  // at least plan.workspace_bytes, 64-byte aligned
};

// Whether every number of such pages is a bf16 number, so that compute may be bf16.
constexpr bool fits_bf16(DType stored) { return stored == DType::bf16 || is_f8(stored); }

using AttentionFn = void (*)(const AttnPlan&, const AttnParams&, Pool&);

void attention_ref(const AttnPlan& plan, const AttnParams& params, Pool& pool);
AttentionFn attention_cpu(Isa isa);

constexpr float kSmallestTokenScale = 1e-12f;

// What a write met; added to, so that one can be kept for many calls. NaNs are counted as values
// and as nothing else.
struct WriteStats {
  int64_t values = 0;
  int64_t clipped = 0;  // values that FP8 moved further than rounding would: beyond the largest
                        // and half a step
  float largest_k = 0;  // |value| before its scale
  float largest_v = 0;
};

// Writes a step's K and V into the pages, rounding to nearest even: token i of a sequence goes to
// position kv_len - q_len + i. FP8 pages hold value / scale and saturate; where pages have token
// scales, they are written too: the row's largest |value| by the format's largest, at least 1e-12.
struct KvWriteParams {
  ConstView k;  // [T, G, k_dim] f32, dense
  ConstView v;  // [T, G, v_dim] f32, dense
  PagedView kv;
  std::span<const AttnSeq> seqs;
  float v_multiplier = 1.0f;    // applied to V before it is rounded and stored
  WriteStats* stats = nullptr;  // nullable: counting costs a second look at every value
};

using KvWriteFn = void (*)(const KvWriteParams&, Pool&);

void kv_write_ref(const KvWriteParams& params, Pool& pool);
KvWriteFn kv_write_cpu(Isa isa);

// Bytes: visible K and V (and their token scales) once per sequence, q and out. Flops: 2 * (k_dim +
// v_dim) per visible pair.
Roof roof(const AttnPlan& plan, const AttnParams& params);

}  // namespace ashlar
