#pragma once

// The kernel of the mma body; mma_layout.cuh says how a block divides its work.

#include <cuda_runtime.h>

#include <algorithm>

#include "kernels/attention/cuda/mma_query.cuh"
#include "kernels/attention/cuda/mma_source.cuh"
#include "kernels/attention/cuda/mma_variants.cuh"
#include "kernels/attention/cuda/mma_walk.cuh"
#include "kernels/cuda/launch.cuh"

namespace ashlar::cuda {

// A warp's share of a state: its two rows, and its slice of their values.
template <class L>
struct Share {
  float m[2], d[2];
  float o[L::kSlice][4];

  __device__ void add(const Share& next) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const Fold fold(m[i], next.m[i]);
      m[i] = fold.m;
      d[i] = fold(d[i], next.d[i]);
#pragma unroll
      for (int block = 0; block < L::kSlice; ++block) {
        for (int column = 0; column < 2; ++column)
          o[block][2 * i + column] = fold(o[block][2 * i + column], next.o[block][2 * i + column]);
      }
    }
  }
};

// Scales a team's sums to the largest maximum of all teams, which `share` then has, with d.
template <class L>
__device__ void scale_to_all(Walk<L>& walk, std::byte* shared, Share<L>& share) {
  auto* sums = reinterpret_cast<float2*>(shared + L::kSumsAt);
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp, row = lane / 4;
  if (lane % 4 == 0) {
    for (int i = 0; i < 2; ++i)
      sums[warp * kMmaRows + row + 8 * i] = make_float2(walk.m[i], walk.d[i]);
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    float2 parts[L::kTeams];
    float highest = -CUDART_INF_F;
#pragma unroll
    for (int team = 0; team < L::kTeams; ++team) {
      parts[team] = sums[team * kMmaRows + row + 8 * i];
      highest = fmaxf(highest, parts[team].x);
    }
    share.m[i] = highest, share.d[i] = 0;
#pragma unroll
    for (int team = 0; team < L::kTeams; ++team) {
      const float factor = exp2_approx(parts[team].x - reference_of(highest));
      share.d[i] = __fmaf_rn(parts[team].y, factor, share.d[i]);
    }
    const float own = exp2_approx(walk.m[i] - reference_of(highest));
#pragma unroll
    for (int block = 0; block < L::kBlocks; ++block) {
      for (int column = 0; column < 2; ++column)
        walk.o[block][2 * i + column] = __fmul_rn(walk.o[block][2 * i + column], own);
    }
  }
}

// The slice of the values that a warp has once teams have met.
template <class L>
__device__ int slice_of_warp() {
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  static_assert(L::kTeams == 4);
  return warp % 2 * 2 + warp / 2;
}

// One step of meet(): warps kStep apart send each other half of their 2 * kKept blocks and add what
// comes to the other half, their first kKept blocks from then on. A warp writes first to the box
// that has its number, then to the one that it alone has read. Rows of the lane: one or two.
template <class L, int kRows, int kStep, int kKept>
__device__ void halve(float (&o)[L::kBlocks][4], float* boxes) {
  using Part = std::conditional_t<kRows == 2, float4, float2>;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  constexpr int kTurned = kStep - 1, kBox = L::kBlocks / 2 * kWarp;
  Part* to = reinterpret_cast<Part*>(boxes) + (warp ^ kTurned) * kBox;
  const Part* from = reinterpret_cast<Part*>(boxes) + (warp ^ kStep ^ kTurned) * kBox;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const bool keeps_upper = (warp & kStep) != 0;
#pragma unroll
  for (int block = 0; block < kKept; ++block) {
    float sent[2 * kRows];
#pragma unroll
    for (int i = 0; i < 2 * kRows; ++i) {
      const float low = o[block][i], high = o[block + kKept][i];
      sent[i] = keeps_upper ? low : high;
      o[block][i] = keeps_upper ? high : low;
    }
    to[block * kWarp + lane] = *reinterpret_cast<Part*>(sent);
  }
  __syncthreads();
#pragma unroll
  for (int block = 0; block < kKept; ++block) {
    const Part part = from[block * kWarp + lane];
#pragma unroll
    for (int i = 0; i < 2 * kRows; ++i)
      o[block][i] = __fadd_rn(o[block][i], reinterpret_cast<const float*>(&part)[i]);
  }
  if constexpr (2 * kStep < L::kTeams) halve<L, kRows, 2 * kStep, kKept / 2>(o, boxes);
}

// Adds up what the teams found in their chunks of a split and leaves each warp a slice: a tree, the
// same whatever the batch. All threads of the block. Upper rows that there are not stay as they
// are.
template <class L>
__device__ Share<L> meet(Walk<L>& walk, int n_rows, std::byte* shared) {
  static_assert(L::kTeam == 1);
  Share<L> share;
  scale_to_all(walk, shared, share);
  auto* boxes = reinterpret_cast<float*>(shared + L::kExchangeAt);
  if (n_rows > kMmaRows / 2)
    halve<L, 2, 1, L::kBlocks / 2>(walk.o, boxes);
  else
    halve<L, 1, 1, L::kBlocks / 2>(walk.o, boxes);
#pragma unroll
  for (int block = 0; block < L::kSlice; ++block)
    for (int i = 0; i < 4; ++i) share.o[block][i] = walk.o[block][i];
  return share;
}

// Calls give(dim, first, second) for the pairs of values a lane holds of row `i`: in FP8 variants
// the second lies two further.
template <class L, int kPairs, class Give>
__device__ void each_pair(const float (&o)[kPairs][4], int slice, int i, Give give) {
  const int j = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
  for (int b = 0; b < kPairs; ++b) {
    const int block = slice * kPairs + b;
    give(L::kF8 ? block / 2 * 16 + block % 2 + 4 * j : block * 8 + 2 * j, o[b][2 * i],
         o[b][2 * i + 1]);
  }
}

// Rows of a state, or of out. `slice` of the values is here; the warp's first row is `first_row`.
template <class L, int kPairs>
__device__ void write_state(const MmaArgs& args, const CudaWork& work, int state, int slice,
                            const float (&m)[2], const float (&d)[2], const float (&o)[kPairs][4]) {
  constexpr int64_t kRowFloats = 2 + L::kValueWidth;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int row = lane / 4 + 8 * i;
    if (row >= rows_of(work)) continue;
    float* to = args.states + state * args.state_floats + row * kRowFloats;
    if (slice == 0 && lane % 4 == 0) *reinterpret_cast<float2*>(to) = make_float2(m[i], d[i]);
    each_pair<L>(o, slice, i, [&](int dim, float first, float second) {
      if constexpr (L::kF8)
        to[2 + dim] = first, to[4 + dim] = second;
      else
        *reinterpret_cast<float2*>(to + 2 + dim) = make_float2(first, second);
    });
  }
}

template <class L, int kPairs>
__device__ void write_rows(const MmaArgs& args, const CudaWork& work, int first_row, int slice,
                           const float (&sinks)[2], const float (&m)[2], const float (&d)[2],
                           const float (&o)[kPairs][4]) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int row = first_row + lane / 4 + 8 * i;
    if (row >= rows_of(work)) continue;
    const float factor = final_factor(m[i], d[i], __fmul_rn(sinks[i], kLog2E), args.v_scale);
    const int64_t at = row_of(args, work, row) * L::kValueWidth;
    const DType dtype = args.is_bf16 ? DType::bf16 : DType::f16;
    each_pair<L>(o, slice, i, [&](int dim, float first, float second) {
      if constexpr (L::kF8) {
        store(args.out, dtype, at + dim, first * factor);
        store(args.out, dtype, at + dim + 2, second * factor);
      } else {
        store_pair(args.out, args.is_bf16, at + dim, first * factor, second * factor);
      }
    });
  }
}

// The sinks of the lane's two rows, read early.
__device__ inline void read_sinks(const MmaArgs& args, const CudaWork& work, int first_row,
                                  float (&sinks)[2]) {
  for (int i = 0; i < 2; ++i) {
    const int row = first_row + static_cast<int>(threadIdx.x) % kWarp / 4 + 8 * i;
    sinks[i] = args.sinks && row < rows_of(work) ? load_early(args.sinks + head_of(work, row))
                                                 : -CUDART_INF_F;
  }
}

// One team's walk over the splits of a work, whose queries it has.
template <class L>
__device__ void do_work(const MmaArgs& args, const CudaWork& work, ChunkSource<L>& source,
                        Walk<L>& walk, std::byte* shared, int& stage) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int first_row = L::kTeam == 1 ? 0 : warp * kMmaRows;
  float sinks[2];
  read_sinks(args, work, first_row, sinks);
  const RowLimits limits = limits_of(args, work, first_row);
  int chunk = first_chunk<L>(work.kv_begin, warp / L::kTeam);
  int split_end =
      args.kv_split > 0 ? (work.kv_begin / args.kv_split + 1) * args.kv_split : work.kv_end;
  int state = work.state;
  Share<L> total;
  [[maybe_unused]] bool is_first = true;
  while (true) {
    walk.clear();
    for (; chunk * L::kChunk < min(split_end, work.kv_end); chunk += L::kTeams) {
      source.look_up();
      source.wait();
      walk.add(source.keys(stage), source.values(stage), chunk * L::kChunk, limits);
      source.meet();
      source.ask(stage);
      stage = stage + 1 == L::kStages ? 0 : stage + 1;
    }
    walk.sum_rows();
    if constexpr (L::kTeam == 1) {
      const Share<L> share = meet<L>(walk, rows_of(work), shared);
      if (!work.first)
        write_state<L>(args, work, state++, slice_of_warp<L>(), share.m, share.d, share.o);
      else if (is_first)
        total = share;
      else
        total.add(share);
      is_first = false;
    }
    if (split_end >= work.kv_end) break;
    split_end += args.kv_split;
  }
  if constexpr (L::kTeam == 1) {
    if (!work.first) return;
    const int slice = slice_of_warp<L>();
    if (state >= 0)
      write_state<L>(args, work, state, slice, total.m, total.d, total.o);
    else
      write_rows<L>(args, work, 0, slice, sinks, total.m, total.d, total.o);
  } else {
    write_rows<L>(args, work, first_row, 0, sinks, walk.m, walk.d, walk.o);
  }
}

template <class L>
__global__ void __launch_bounds__(L::kThreads, L::kBlocksPerSm)
    mma_blocks(const __grid_constant__ MmaArgs args) {
  extern __shared__ __align__(16) std::byte shared[];
  launch_dependents();
  const int thread = static_cast<int>(threadIdx.x), warp = thread / kWarp;
  WorkList list(args);
  if (list.done()) return;
  ChunkSource<L> source(args, shared_address(shared), warp / L::kTeam, thread % (L::kTeam * kWarp));
  Queries<L> queries;
#pragma unroll 1
  for (int stage = 0; stage < L::kStages; ++stage) {
    source.look_up();
    if (stage == 0) queries.request(args, *list.get());
    source.ask(stage);
  }
  Walk<L> walk(args);
  auto* row_factors = reinterpret_cast<float*>(shared + L::kRowScalesAt);
  const int first_row = L::kTeam == 1 ? 0 : warp * kMmaRows, row = first_row + thread % kWarp / 4;
  int stage = 0;
  while (!list.done()) {
    const CudaWork work = *list.get();
    list.next();
    if (L::kTeam > 1) __syncthreads();  // nobody looks at the queries before
    queries.store(shared + L::kQueryAt, row_factors);
    __syncthreads();
    walk.take_queries(
        shared_address(shared + L::kQueryAt) + static_cast<uint32_t>(first_row * L::kQueryPitch),
        args.logit_scale * (L::kF8 ? row_factors[row] : 1.0f),
        args.logit_scale * (L::kF8 ? row_factors[row + 8] : 1.0f));
    if (!list.done()) queries.request(args, *list.get());
    do_work(args, work, source, walk, shared, stage);
  }
}

// Works of decode blocks without a queue are dealt to as many blocks as run at once: a block asks
// for its next work's tokens while it walks the last's. Prompts' works are long and of every
// length: a block each.
template <class L>
void launch_mma(const MmaArgs& args, int n_blocks, CUstream_st* stream) {
  static_assert(L::kSharedBytes <= mma_shared_kib(L::kKeyWidth) * 1024);
  if (!args.queue && L::kTeam == 1) {
    int device = 0, n_sms = 0;
    CHECK_CUDA(cudaGetDevice(&device));
    CHECK_CUDA(cudaDeviceGetAttribute(&n_sms, cudaDevAttrMultiProcessorCount, device));
    n_blocks = std::min(args.n_works, n_sms * L::kBlocksPerSm);
  }
  CHECK_CUDA(cudaFuncSetAttribute(mma_blocks<L>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  L::kSharedBytes));
  mma_blocks<L><<<static_cast<unsigned>(n_blocks), L::kThreads, L::kSharedBytes, stream>>>(args);
  CHECK_CUDA(cudaGetLastError());
}

// The variant for widths and a team: the list.
template <DType kType, int kTeam, bool kOwn>
MmaLaunch mma_variant(int keys, int values) {
  if (keys == 64 && values == 64) return launch_mma<MmaLayout<kType, 64, 64, kTeam, kOwn>>;
  if (keys == 96 && values == 96) return launch_mma<MmaLayout<kType, 96, 96, kTeam, kOwn>>;
  if (keys == 128 && values == 128) return launch_mma<MmaLayout<kType, 128, 128, kTeam, kOwn>>;
  if (keys == 192 && values == 128) return launch_mma<MmaLayout<kType, 192, 128, kTeam, kOwn>>;
  if (keys == 256 && values == 256) return launch_mma<MmaLayout<kType, 256, 256, kTeam, kOwn>>;
  if (keys == 48 && values == 32) return launch_mma<MmaLayout<kType, 48, 32, kTeam, kOwn>>;
  return nullptr;
}

}  // namespace ashlar::cuda
