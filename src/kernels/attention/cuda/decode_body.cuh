#pragma once

// The kernel of the decode body; decode_layout.cuh says how a block divides its work.

#include "kernels/attention/cuda/decode_load.cuh"
#include "kernels/attention/cuda/decode_variants.cuh"
#include "kernels/attention/cuda/decode_walk.cuh"
#include "kernels/cuda/launch.cuh"

namespace ashlar::cuda {

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900

// A warp's share of a state: all its rows, and its values of them.
template <class L, int kTiles>
struct DecodeState {
  float m[kTiles][2], d[kTiles][2];
  float o[L::kValueTiles][kTiles][4];

  __device__ explicit DecodeState(const DecodeWalk<L, kTiles>& walk) {
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
      for (int c = 0; c < 2; ++c) m[n][c] = walk.reference[n][c], d[n][c] = walk.d[n][c];
#pragma unroll
      for (int v = 0; v < L::kValueTiles; ++v)
        for (int i = 0; i < 4; ++i) o[v][n][i] = walk.o[v][n][i];
    }
  }
  __device__ void add(const DecodeState& next) {
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        const Fold fold(m[n][c], next.m[n][c]);
        m[n][c] = fold.m;
        d[n][c] = fold(d[n][c], next.d[n][c]);
#pragma unroll
        for (int v = 0; v < L::kValueTiles; ++v) {
          for (int i = c; i < 4; i += 2) o[v][n][i] = fold(o[v][n][i], next.o[v][n][i]);
        }
      }
    }
  }
};

// The value that a lane's first row of sums of its warp's tile `v` is, and from there to the second.
template <class L>
__device__ int first_value(int v) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp, row = static_cast<int>(threadIdx.x) % kWarp / 4;
  return (warp * L::kValueTiles + v) * 16 + (L::kF8 ? 2 * row : row);
}
template <class L>
constexpr int kValueStep = L::kF8 ? 1 : 8;

template <class L, int kTiles>
__device__ void write_state(const DecodeArgs& args, const CudaWork& work, int state,
                            const DecodeState<L, kTiles>& s) {
  constexpr int64_t kRowFloats = 2 + L::kValueWidth;
  const int thread = static_cast<int>(threadIdx.x);
#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const int row = n * 8 + thread % 4 * 2 + c;
      if (row >= rows_of(work)) continue;
      float* to = args.states + state * args.state_floats + row * kRowFloats;
      if (thread < 4) *reinterpret_cast<float2*>(to) = make_float2(s.m[n][c], s.d[n][c]);
#pragma unroll
      for (int v = 0; v < L::kValueTiles; ++v) {
        to[2 + first_value<L>(v)] = s.o[v][n][c];
        to[2 + first_value<L>(v) + kValueStep<L>] = s.o[v][n][c + 2];
      }
    }
  }
}

__device__ inline uint32_t pack_as(bool is_bf16, float low, float high) {
  return is_bf16 ? pack<__nv_bfloat16>(low, high) : pack<__half>(low, high);
}

template <class L, int kTiles>
__device__ void write_rows(const DecodeArgs& args, const CudaWork& work,
                           const float (&sinks)[kTiles][2], const DecodeState<L, kTiles>& s) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
    float factor[2];
    for (int c = 0; c < 2; ++c)
      factor[c] = final_factor(s.m[n][c], s.d[n][c], __fmul_rn(sinks[n][c], kLog2E), args.v_scale);
#pragma unroll
    for (int v = 0; v < L::kValueTiles; ++v) {
      const int first = (warp * L::kValueTiles + v) * 16;
      const float(&o)[4] = s.o[v][n];
      uint32_t pair[2];
      if constexpr (L::kF8) {
        for (int c = 0; c < 2; ++c)
          pair[c] = pack_as(args.is_bf16, o[c] * factor[c], o[c + 2] * factor[c]);
      } else {
        for (int half = 0; half < 2; ++half) {
          pair[half] = transposed(
              pack<typename L::Half>(o[2 * half] * factor[0], o[2 * half + 1] * factor[1]));
        }
      }
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int row = n * 8 + (L::kF8 ? lane % 4 * 2 + i : lane / 4);
        const int column = first + (L::kF8 ? lane / 4 * 2 : i * 8 + lane % 4 * 2);
        if (row >= rows_of(work)) continue;
        const int64_t at = row_of(args, work, row) * L::kValueWidth + column;
        static_cast<uint32_t*>(args.out)[at / 2] = pair[i];
      }
    }
  }
}

// The rings as those see them who multiply.
template <class L>
class TileReader {
 public:
  __device__ TileReader(const DecodeArgs& args, DecodeShared<L>& shared, uint32_t ring)
      : shared_(shared), ring_(ring), stages_(args.stages) {}

  __device__ uint32_t await_keys() const {
    shared_.key_full[key_.slot].wait(key_.parity);
    return ring_ + key_.slot * L::kKeyBytes;
  }
  __device__ const float* scales(int i) const { return shared_.scales[L::kTokenScales ? key_.slot : 0][i]; }
  __device__ void leave_keys() {
    leave(shared_.key_empty[key_.slot]);
    key_.next(stages_);
  }
  __device__ uint32_t await_values() const {
    shared_.value_full[value_.slot].wait(value_.parity);
    return ring_ + stages_ * L::kKeyBytes + value_.slot * L::kValueBytes;
  }
  __device__ void leave_values() {
    leave(shared_.value_empty[value_.slot]);
    value_.next(stages_);
  }

 private:
  __device__ static void leave(Barrier& barrier) {
    __syncwarp();
    if (threadIdx.x % kWarp == 0) barrier.arrive();
  }
  DecodeShared<L>& shared_;
  const uint32_t ring_;
  const int stages_;
  DecodePlace key_, value_;
};

// What a work's tiles are walked with.
template <class L, int kTiles>
class DecodeWorker {
 public:
  __device__ DecodeWorker(const DecodeArgs& args, const CudaWork& work, DecodeShared<L>& shared,
                          TileReader<L>& reader, int& buffer)
      : args_(args), work_(work), reader_(reader), buffer_(buffer), walk_(args, shared) {
    // Tokens that every row sees.
    const int first = work.q_position + work.token_begin, last = work.q_position + work.token_end - 1;
    inner_begin_ = args.window > 0 ? max(work.kv_begin, last - args.window + 1) : work.kv_begin;
    inner_end_ = args.causal ? min(work.kv_end, first + 1) : work.kv_end;
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
      for (int c = 0; c < 2; ++c) {
        const int row = n * 8 + static_cast<int>(threadIdx.x) % 4 * 2 + c;
        sinks_[n][c] = args.sinks && row < rows_of(work)
                           ? load_early(args.sinks + head_of(work, row))
                           : -CUDART_INF_F;
      }
    }
  }
  __device__ void take_queries(const std::byte* queries) { walk_.take_queries(queries); }

  __device__ void run() {
    int begin = work_.kv_begin, state = work_.state;
    int split_end = args_.kv_split > 0 ? (begin / args_.kv_split + 1) * args_.kv_split : work_.kv_end;
    sum(begin, min(split_end, work_.kv_end));
    DecodeState<L, kTiles> total(walk_);
    if (!work_.first) write_state(args_, work_, state++, total);
    while (split_end < work_.kv_end) {
      begin = split_end, split_end += args_.kv_split;
      sum(begin, min(split_end, work_.kv_end));
      const DecodeState<L, kTiles> next(walk_);
      if (work_.first)
        total.add(next);
      else
        write_state(args_, work_, state++, next);
    }
    if (!work_.first) return;
    if (state >= 0)
      write_state(args_, work_, state, total);
    else
      write_rows(args_, work_, sinks_, total);
  }

 private:
  // One split: scores run a tile ahead of values.
  __device__ void sum(int begin, int end) {
    walk_.clear();
    int tile = begin / kDecodeTile;
    const int last = (end - 1) / kDecodeTile;
    float s[kTiles][4];
    walk_.score(reader_.await_keys(), s);
    weigh(tile, s, true, tile == last);
#pragma unroll 1
    for (; tile < last; ++tile) {
      const uint32_t keys = reader_.await_keys(), values = await_values(tile);
      walk_.score(keys, s);
      walk_.add_values(values, buffer_ ^ 1);
      reader_.leave_values();
      weigh(tile + 1, s, false, tile + 1 == last);
    }
    walk_.add_values(await_values(tile), buffer_ ^ 1);
    reader_.leave_values();
    walk_.take_sums();
  }

  // Scores of a tile to probabilities, in the buffer that is next.
  __device__ void weigh(int tile, float (&s)[kTiles][4], bool first, bool last) {
    const int position = tile * kDecodeTile;
    const bool edge = position < inner_begin_ || position + kDecodeTile > inner_end_;
    if constexpr (!L::kTokenScales) reader_.leave_keys();
    walk_.scale(work_, position, reader_.scales(0), edge, s);
    walk_.softmax(s, reader_.scales(1), first, last, buffer_);
    if constexpr (L::kTokenScales) reader_.leave_keys();
    buffer_ ^= 1;
  }

  __device__ uint32_t await_values(int tile) const {
    const uint32_t values = reader_.await_values();
    const int begin = work_.kv_begin - tile * kDecodeTile, end = work_.kv_end - tile * kDecodeTile;
    if (begin > 0 || end < kDecodeTile) walk_.clear_values(values, begin, end);
    return values;
  }

  const DecodeArgs& args_;
  const CudaWork& work_;
  TileReader<L>& reader_;
  int& buffer_;  // of probabilities, next to be written
  DecodeWalk<L, kTiles> walk_;
  int inner_begin_, inner_end_;
  float sinks_[kTiles][2];
};

template <class L>
__device__ void multiply(const DecodeArgs& args, DecodeShared<L>& shared, uint32_t ring) {
  WorkList list(args);
  TileReader<L> reader(args, shared, ring);
  DecodePlace place;
  int buffer = 0;
  for (; !list.done(); list.next()) {
    shared.work_full[place.slot].wait(place.parity);
    const CudaWork& work = shared.works[place.slot];
    const auto run = [&](auto worker) {
      worker.take_queries(shared.queries[place.slot]);
      worker.run();
    };
    if (rows_of(work) <= 8)
      run(DecodeWorker<L, 1>(args, work, shared, reader, buffer));
    else
      run(DecodeWorker<L, 2>(args, work, shared, reader, buffer));
    __syncwarp();
    if (threadIdx.x % kWarp == 0) shared.work_empty[place.slot].arrive();
    place.next(2);
  }
}

#endif

template <class L>
__global__ void __launch_bounds__(L::kThreads, 2)
    decode_blocks(const __grid_constant__ DecodeArgs args, const __grid_constant__ CUtensorMap keys,
                  const __grid_constant__ CUtensorMap values) {
#if __CUDA_ARCH__ >= 900
  extern __shared__ std::byte memory[];
  launch_dependents();
  const uint32_t base = shared_address(memory), ring = (base + 1023) / 1024 * 1024;
  auto& shared = *reinterpret_cast<DecodeShared<L>*>(memory + (ring - base) +
                                                     args.stages * L::kStageBytes);
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  if (threadIdx.x == 0) shared.init_barriers(args.stages);
  if (warp == kDecodeWarps) {
    if (threadIdx.x % kWarp == 0) prefetch_tensor_map(&keys), prefetch_tensor_map(&values);
    TileCursor cursor(args, static_cast<int>(threadIdx.x) % kWarp);
    __syncthreads();
    Fetcher<L>(args, &keys, &values, shared, ring).run(cursor);
  } else {
    __syncthreads();
    multiply(args, shared, ring);
  }
#endif
}

// Rows for tensor copies: [granules][page_tokens][width], boxes of 64 elements of `box` tokens. A
// table's entry is a coordinate: consecutive granules overlap, and nobody tells where the arena ends.
CUtensorMap decode_map(const PagedView& kv, const std::byte* rows, int32_t width);

constexpr int kMultiprocessorBytes = 228 * 1024, kBlockBytes = 1024;  // the system's, of a block

// Works without a queue are dealt to as many blocks as run at once. A multiprocessor that has one
// block gets one deep ring, else two blocks share its memory.
template <class L>
void launch_decode(DecodeArgs args, const PagedView& kv, int n_blocks, CUstream_st* stream) {
  int device = 0, n_sms = 0;
  CHECK_CUDA(cudaGetDevice(&device));
  CHECK_CUDA(cudaDeviceGetAttribute(&n_sms, cudaDevAttrMultiProcessorCount, device));
  if (!args.queue) n_blocks = std::min(args.n_works, n_sms * 2);
  const int per_sm = n_blocks > n_sms ? 2 : 1;
  args.stages = stages_in<L>(kMultiprocessorBytes / per_sm - kBlockBytes);
  const int bytes = 1024 + static_cast<int>(sizeof(DecodeShared<L>)) + args.stages * L::kStageBytes;
  CHECK_CUDA(cudaFuncSetAttribute(decode_blocks<L>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  bytes));
  decode_blocks<L><<<static_cast<unsigned>(n_blocks), L::kThreads, static_cast<unsigned>(bytes),
                     stream>>>(args, decode_map(kv, args.k, L::kKeyWidth),
                               decode_map(kv, args.v, L::kValueWidth));
  CHECK_CUDA(cudaGetLastError());
}

// The variant for widths: the list.
template <DType kType, bool kTokenScales>
DecodeLaunch decode_variant(int keys, int values) {
  if (keys == 64 && values == 64) return launch_decode<DecodeLayout<kType, 64, 64, kTokenScales>>;
  if (keys == 128 && values == 128)
    return launch_decode<DecodeLayout<kType, 128, 128, kTokenScales>>;
  if (keys == 192 && values == 128)
    return launch_decode<DecodeLayout<kType, 192, 128, kTokenScales>>;
  return nullptr;
}

}  // namespace ashlar::cuda
