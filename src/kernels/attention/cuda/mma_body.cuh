#pragma once

// The kernel of the mma body; mma_layout.cuh says how a block divides its work.

#include <cuda_runtime.h>

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

  __device__ void clear() {
    for (int i = 0; i < 2; ++i) m[i] = -CUDART_INF_F, d[i] = 0;
#pragma unroll
    for (int block = 0; block < L::kSlice; ++block)
      for (int i = 0; i < 4; ++i) o[block][i] = 0;
  }
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

// Adds up what the teams found in their chunks of a split, in the order of the teams, and leaves
// each warp its slice. All threads of the block.
template <class L>
__device__ Share<L> meet(const Walk<L>& walk, std::byte* shared) {
  static_assert(L::kTeam == 1);
  auto* sums = reinterpret_cast<float2*>(shared + L::kSumsAt);
  auto* exchange = reinterpret_cast<float4*>(shared + L::kExchangeAt);
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp, row = lane / 4;
  if (lane % 4 == 0) {
    for (int i = 0; i < 2; ++i)
      sums[warp * kMmaRows + row + 8 * i] = make_float2(walk.m[i], walk.d[i]);
  }
  __syncthreads();
  Share<L> share;
  float own[2];
  for (int i = 0; i < 2; ++i) {
    float2 parts[kMmaWarps];
    float highest = -CUDART_INF_F;
    for (int team = 0; team < kMmaWarps; ++team) {
      parts[team] = sums[team * kMmaRows + row + 8 * i];
      highest = fmaxf(highest, parts[team].x);
    }
    share.m[i] = highest, share.d[i] = 0;
    for (int team = 0; team < kMmaWarps; ++team) {
      const float factor = exp2_approx(parts[team].x - reference_of(highest));
      share.d[i] = __fmaf_rn(parts[team].y, factor, share.d[i]);
    }
    own[i] = exp2_approx(walk.m[i] - reference_of(highest));
  }
  const auto place = [&](int to, int from, int block) {  // a team sends to the three others
    return ((to * (L::kTeams - 1) + from - (from > to)) * L::kSlice + block) * kWarp + lane;
  };
#pragma unroll
  for (int to = 0; to < L::kTeams; ++to) {
#pragma unroll
    for (int block = 0; block < L::kSlice; ++block) {
      const float(&o)[4] = walk.o[to * L::kSlice + block];
      const float4 part = make_float4(__fmul_rn(o[0], own[0]), __fmul_rn(o[1], own[0]),
                                      __fmul_rn(o[2], own[1]), __fmul_rn(o[3], own[1]));
      if (to != warp) {
        exchange[place(to, warp, block)] = part;
      } else {
        share.o[block][0] = part.x, share.o[block][1] = part.y;
        share.o[block][2] = part.z, share.o[block][3] = part.w;
      }
    }
  }
  __syncthreads();
#pragma unroll
  for (int block = 0; block < L::kSlice; ++block) {
    const float(&o)[4] = share.o[block];
    float4 sum = make_float4(0, 0, 0, 0);
    for (int from = 0; from < L::kTeams; ++from) {
      const float4 part =
          from == warp ? make_float4(o[0], o[1], o[2], o[3]) : exchange[place(warp, from, block)];
      sum.x = __fadd_rn(sum.x, part.x), sum.y = __fadd_rn(sum.y, part.y);
      sum.z = __fadd_rn(sum.z, part.z), sum.w = __fadd_rn(sum.w, part.w);
    }
    share.o[block][0] = sum.x, share.o[block][1] = sum.y;
    share.o[block][2] = sum.z, share.o[block][3] = sum.w;
  }
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
                           const float (&m)[2], const float (&d)[2], const float (&o)[kPairs][4]) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int row = first_row + lane / 4 + 8 * i;
    if (row >= rows_of(work)) continue;
    const float sink = sink_of(args.sinks, work.head_begin + row % work.n_heads);
    const float factor = final_factor(m[i], d[i], sink, args.v_scale);
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

// One team's walk over the splits of a work.
template <class L>
__device__ void do_work(const MmaArgs& args, const CudaWork& work, ChunkSource<L>& source,
                        Walk<L>& walk, std::byte* shared) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int first_row = L::kTeam == 1 ? 0 : warp * kMmaRows;
  auto* row_factors = reinterpret_cast<float*>(shared + L::kRowScalesAt);
  source.begin(work);
  if constexpr (!L::kF8) copy_queries<L>(args, work, shared_address(shared + L::kQueryAt));
  copy_async_commit();

  const int begin = work.kv_begin / L::kChunk, end = (work.kv_end + L::kChunk - 1) / L::kChunk;
  const int team = warp / L::kTeam;
  int chunk = begin + (team - begin % L::kTeams + L::kTeams) % L::kTeams;
  typename ChunkSource<L>::Places places[L::kStages];
  for (int i = 0; i < L::kStages; ++i) places[i] = source.places(chunk + i * L::kTeams);
  for (int i = 0; i < L::kStages; ++i) source.ask(chunk + i * L::kTeams, places[i], i);
  const RowLimits limits = limits_of(args, work, first_row);
  if constexpr (L::kF8) convert_queries<L>(args, work, shared + L::kQueryAt, row_factors);
  copy_async_wait<L::kStages>();
  __syncthreads();
  const int row = first_row + static_cast<int>(threadIdx.x) % kWarp / 4;
  walk.take_queries(
      shared_address(shared + L::kQueryAt) + static_cast<uint32_t>(first_row * L::kQueryPitch),
      args.logit_scale * (L::kF8 ? row_factors[row] : 1.0f),
      args.logit_scale * (L::kF8 ? row_factors[row + 8] : 1.0f));

  const int split_chunks = args.kv_split > 0 ? args.kv_split / L::kChunk : end;
  int split_end = (begin / split_chunks + 1) * split_chunks;
  int stage = 0, state = work.state;
  Share<L> total;
  if constexpr (L::kTeam == 1) total.clear();
  while (true) {
    walk.clear();
    for (; chunk < min(split_end, end); chunk += L::kTeams) {
      const auto next = source.places(chunk + L::kStages * L::kTeams);
      source.wait();
      walk.add(source.keys(stage), source.values(stage), chunk * L::kChunk, limits);
      source.meet();
      source.ask(chunk + L::kStages * L::kTeams, next, stage);
      stage = stage + 1 == L::kStages ? 0 : stage + 1;
    }
    walk.sum_rows();
    if constexpr (L::kTeam == 1) {
      const Share<L> share = meet<L>(walk, shared);
      if (work.first)
        total.add(share);
      else
        write_state<L>(args, work, state++, warp, share.m, share.d, share.o);
    }
    if (split_end >= end) break;
    split_end += split_chunks;
  }
  if constexpr (L::kTeam == 1) {
    if (!work.first) return;
    if (state >= 0)
      write_state<L>(args, work, state, warp, total.m, total.d, total.o);
    else
      write_rows<L>(args, work, 0, warp, total.m, total.d, total.o);
  } else {
    write_rows<L>(args, work, first_row, 0, walk.m, walk.d, walk.o);
  }
}

template <class L>
__global__ void __launch_bounds__(kMmaThreads, 2) mma_blocks(const __grid_constant__ MmaArgs args) {
  extern __shared__ __align__(16) std::byte shared[];
  launch_dependents();
  const int thread = static_cast<int>(threadIdx.x), block = static_cast<int>(blockIdx.x);
  ChunkSource<L> source(args, shared_address(shared), thread / kWarp / L::kTeam,
                        thread % (L::kTeam * kWarp));
  Walk<L> walk(args);
  const int begin = args.queue ? args.queue[block] : block;
  const int end = args.queue ? args.queue[block + 1] : block + 1;
  for (int i = begin; i < end; ++i) {
    if (i > begin) __syncthreads();  // the queries' place is free
    do_work<L>(args, args.works[i], source, walk, shared);
  }
}

template <class L>
void launch_mma(const MmaArgs& args, int n_blocks, CUstream_st* stream) {
  CHECK_CUDA(cudaFuncSetAttribute(mma_blocks<L>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  L::kSharedBytes));
  mma_blocks<L><<<static_cast<unsigned>(n_blocks), kMmaThreads, L::kSharedBytes, stream>>>(args);
  CHECK_CUDA(cudaGetLastError());
}

// The variant for widths and a team: the list.
template <DType kType, int kTeam>
MmaLaunch mma_variant(int keys, int values) {
  if (keys == 64 && values == 64) return launch_mma<MmaLayout<kType, 64, 64, kTeam>>;
  if (keys == 96 && values == 96) return launch_mma<MmaLayout<kType, 96, 96, kTeam>>;
  if (keys == 128 && values == 128) return launch_mma<MmaLayout<kType, 128, 128, kTeam>>;
  if (keys == 192 && values == 128) return launch_mma<MmaLayout<kType, 192, 128, kTeam>>;
  if (keys == 256 && values == 256) return launch_mma<MmaLayout<kType, 256, 256, kTeam>>;
  if (keys == 48 && values == 32) return launch_mma<MmaLayout<kType, 48, 32, kTeam>>;
  return nullptr;
}

}  // namespace ashlar::cuda
