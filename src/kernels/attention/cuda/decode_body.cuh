#pragma once

// The kernel of the decode body; decode_layout.cuh says how a block divides its work.

#include "kernels/attention/cuda/decode_load.cuh"
#include "kernels/attention/cuda/decode_variants.cuh"
#include "kernels/attention/cuda/decode_walk.cuh"
#include "kernels/cuda/launch.cuh"

namespace ashlar::cuda {

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900

// A warp's share of a state: all its rows, and kValueTiles tiles of 16 values of each.
template <int kValueTiles, int kTiles>
struct DecodeState {
  float m[kTiles][2], d[kTiles][2];
  float o[kValueTiles][kTiles][4];

  template <class Walk>
  __device__ void take(const Walk& walk) {
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
      for (int c = 0; c < 2; ++c) m[n][c] = walk.reference[n][c], d[n][c] = walk.d[n][c];
#pragma unroll
      for (int v = 0; v < kValueTiles; ++v)
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
        for (int v = 0; v < kValueTiles; ++v)
          for (int i = c; i < 4; i += 2) o[v][n][i] = fold(o[v][n][i], next.o[v][n][i]);
      }
    }
  }
};

template <class L, int kTiles>
__device__ void write_state(const MmaArgs& args, const CudaWork& work, int state,
                            const DecodeState<L::kValueTiles, kTiles>& s) {
  constexpr int64_t kRowFloats = 2 + L::kValueWidth;
  const int thread = static_cast<int>(threadIdx.x), row_of_sums = thread % kWarp / 4;
  // The values that the lane's two rows of a tile of sums are.
  const int first = thread / kWarp * L::kValueTiles * 16 + (L::kF8 ? 2 * row_of_sums : row_of_sums);
  const int second = first + (L::kF8 ? 1 : 8);
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
        to[2 + v * 16 + first] = s.o[v][n][c];
        to[2 + v * 16 + second] = s.o[v][n][c + 2];
      }
    }
  }
}

__device__ inline uint32_t pack_as(bool is_bf16, float low, float high) {
  return is_bf16 ? pack<__nv_bfloat16>(low, high) : pack<__half>(low, high);
}

// Pairs of neighbouring values of a query, of a tile of sums of which the lane has two queries'.
template <class L>
__device__ void pair_up(bool is_bf16, const float (&o)[4], const float (&factor)[2],
                        uint32_t (&pair)[2]) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    if constexpr (L::kF8)
      pair[i] = pack_as(is_bf16, o[i] * factor[i], o[i + 2] * factor[i]);
    else
      pair[i] = transposed(pack<typename L::Half>(o[2 * i] * factor[0], o[2 * i + 1] * factor[1]));
  }
}

template <class L, int kTiles>
__device__ void write_rows(const MmaArgs& args, const CudaWork& work,
                           const float (&sinks)[kTiles][2],
                           const DecodeState<L::kValueTiles, kTiles>& s) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int first = static_cast<int>(threadIdx.x) / kWarp * L::kValueTiles * 16;
#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
    float factor[2];
    for (int c = 0; c < 2; ++c)
      factor[c] = final_factor(s.m[n][c], s.d[n][c], __fmul_rn(sinks[n][c], kLog2E), args.v_scale);
#pragma unroll
    for (int v = 0; v < L::kValueTiles; ++v) {
      uint32_t pair[2];
      pair_up<L>(args.is_bf16, s.o[v][n], factor, pair);
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int row = n * 8 + (L::kF8 ? lane % 4 * 2 + i : lane / 4);
        const int column = first + v * 16 + (L::kF8 ? lane / 4 * 2 : i * 8 + lane % 4 * 2);
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
  __device__ TileReader(DecodeShared<L>& shared, uint32_t ring) : shared_(shared), ring_(ring) {}

  __device__ uint32_t await_keys() const {
    shared_.key_full[key_.slot].wait(key_.parity);
    return ring_ + key_.slot * L::Keys::kBytes;
  }
  __device__ const float* scales(int i) const {
    return shared_.scales[L::kTokenScales ? key_.slot : 0][i];
  }
  __device__ void leave_keys() {
    leave(shared_.key_empty[key_.slot]);
    key_.next(kStages<L>);
  }
  __device__ uint32_t await_values() const {
    shared_.value_full[value_.slot].wait(value_.parity);
    return ring_ + kStages<L> * L::Keys::kBytes + value_.slot * L::Values::kBytes;
  }
  __device__ void leave_values() {
    leave(shared_.value_empty[value_.slot]);
    value_.next(kStages<L>);
  }

 private:
  __device__ static void leave(Barrier& barrier) {
    __syncwarp();
    if (threadIdx.x % kWarp == 0) barrier.arrive();
  }
  DecodeShared<L>& shared_;
  const uint32_t ring_;
  DecodePlace key_, value_;
};

// What a work's tiles are walked with.
template <class L, int kTiles>
class DecodeWorker {
 public:
  __device__ DecodeWorker(const MmaArgs& args, const CudaWork& work, DecodeShared<L>& shared,
                          TileReader<L>& reader, int& buffer)
      : args_(args),
        work_(work),
        reader_(reader),
        buffer_(buffer),
        walk_(args, shared),
        kv_begin_(work.kv_begin),
        kv_end_(work.kv_end) {
    // Tokens that every row sees.
    const int first = work.q_position + work.token_begin,
              last = work.q_position + work.token_end - 1;
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

  // Scores run a tile ahead of values, from split to split.
  __device__ void run() {
    constexpr int kTile = L::kTile;
    const int split_tiles = args_.kv_split > 0 ? args_.kv_split / kTile : 1 << 30;
    int tile = work_.kv_begin / kTile, split_last = (tile / split_tiles + 1) * split_tiles - 1;
    const int last = (work_.kv_end - 1) / kTile;
    float s[kTiles][4];
    walk_.clear();
    walk_.score(reader_.await_keys(), s);
    weigh(tile, s, true, tile == min(last, split_last));
#pragma unroll 1
    for (; tile < last; ++tile) {
      const uint32_t keys = reader_.await_keys(), values = await_values(tile);
      walk_.score(keys, s);
      walk_.add_values(values, buffer_ ^ 1);
      reader_.leave_values();
      const bool starts = !L::kWhole && tile == split_last;
      if (starts) {
        end_split();
        walk_.clear();
        split_last += split_tiles;
      }
      weigh(tile + 1, s, starts, tile + 1 == min(last, split_last));
    }
    walk_.add_values(await_values(tile), buffer_ ^ 1);
    reader_.leave_values();
    end_split();
    if (!L::kWhole && !work_.first) return;
    if (!L::kWhole && work_.state >= 0)
      write_state<L>(args_, work_, work_.state, total_);
    else
      write_rows<L>(args_, work_, sinks_, total_);
  }

 private:
  __device__ void end_split() {
    walk_.take_sums();
    if (L::kWhole || (work_.first && n_splits_ == 0)) {
      total_.take(walk_);
    } else {
      DecodeState<L::kValueTiles, kTiles> next;
      next.take(walk_);
      if (work_.first)
        total_.add(next);
      else
        write_state<L>(args_, work_, work_.state + n_splits_, next);
    }
    ++n_splits_;
  }

  // Scores of a tile to probabilities, in the buffer that is next.
  __device__ void weigh(int tile, float (&s)[kTiles][4], bool first, bool last) {
    const int position = tile * L::kTile;
    const bool edge = position < inner_begin_ || position + L::kTile > inner_end_;
    if constexpr (!L::kTokenScales) reader_.leave_keys();
    walk_.scale(work_, position, reader_.scales(0), edge, s);
    walk_.softmax(s, reader_.scales(1), first, last, buffer_);
    if constexpr (L::kTokenScales) reader_.leave_keys();
    buffer_ ^= 1;
  }

  __device__ uint32_t await_values(int tile) const {
    const uint32_t values = reader_.await_values();
    const int begin = kv_begin_ - tile * L::kTile, end = kv_end_ - tile * L::kTile;
    if (begin > 0 || end < L::kTile) walk_.clear_values(values, begin, end);
    return values;
  }

  const MmaArgs& args_;
  const CudaWork& work_;
  TileReader<L>& reader_;
  int& buffer_;  // of probabilities, next to be written
  DecodeWalk<L, kTiles> walk_;
  DecodeState<L::kValueTiles, kTiles> total_;
  int n_splits_ = 0;
  const int kv_begin_, kv_end_;
  int inner_begin_, inner_end_;
  float sinks_[kTiles][2];
};

template <class L>
__device__ void multiply(const MmaArgs& args, DecodeShared<L>& shared, uint32_t ring) {
  WorkList list(args);
  TileReader<L> reader(shared, ring);
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
__global__ void __launch_bounds__(L::kThreads, L::kBlocksPerSm)
    decode_blocks(const __grid_constant__ MmaArgs args, const __grid_constant__ CUtensorMap keys,
                  const __grid_constant__ CUtensorMap values) {
#if __CUDA_ARCH__ >= 900
  extern __shared__ std::byte memory[];
  launch_dependents();
  const uint32_t base = shared_address(memory), ring = (base + 1023) / 1024 * 1024;
  auto& shared =
      *reinterpret_cast<DecodeShared<L>*>(memory + (ring - base) + kStages<L> * L::kStageBytes);
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  if (warp == 0) shared.init(lane);
  if (warp < L::kWarps) {
    __syncthreads();
    if constexpr (L::kLends) registers_take<224>();
    multiply(args, shared, ring);
    return;
  }
  if (warp > L::kWarps) {
    __syncthreads();
    registers_give<56>();
    return;
  }
  if (lane == 0) prefetch_tensor_map(&keys), prefetch_tensor_map(&values);
  TileCursor<L::kTile> cursor(args, lane);  // its first reads are on their way meanwhile
  __syncthreads();
  if constexpr (L::kLends) registers_give<56>();
  Fetcher<L>(args, &keys, &values, shared, ring).run(cursor);
#endif
}

// Rows for tensor copies: [granules][page_tokens][lines][line], boxes of `box_lines` lines of a
// page's tokens, `tile` at most. A table's entry is a coordinate: consecutive granules overlap, and
// nobody tells where the arena ends.
CUtensorMap decode_map(const PagedView& kv, const std::byte* rows, int32_t line_bytes,
                       int32_t lines, int32_t box_lines, int32_t tile);
template <class Lines>
CUtensorMap decode_map(const PagedView& kv, const std::byte* rows, int32_t tile) {
  return decode_map(kv, rows, Lines::kLine, Lines::kLines, Lines::kLines / Lines::kCopies, tile);
}

// Works without a queue are dealt to as many blocks as run at once.
template <class L>
void launch_decode(const MmaArgs& args, const PagedView& kv, int n_blocks, CUstream_st* stream) {
  int device = 0, n_sms = 0;
  CHECK_CUDA(cudaGetDevice(&device));
  CHECK_CUDA(cudaDeviceGetAttribute(&n_sms, cudaDevAttrMultiProcessorCount, device));
  if (args.kv_split == 0) n_blocks = std::min(args.n_works, n_sms * L::kBlocksPerSm);
  constexpr int kBytes =
      1024 + static_cast<int>(sizeof(DecodeShared<L>)) + kStages<L> * L::kStageBytes;
  CHECK_CUDA(
      cudaFuncSetAttribute(decode_blocks<L>, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes));
  decode_blocks<L><<<static_cast<unsigned>(n_blocks), L::kThreads, kBytes, stream>>>(
      args, decode_map<typename L::Keys>(kv, args.k, L::kTile),
      decode_map<typename L::Values>(kv, args.v, L::kTile));
  CHECK_CUDA(cudaGetLastError());
}

// The variant for widths: the list. `whole`: works are short, and two blocks a multiprocessor hide
// the start and the end of each.
template <DType kType, bool kTokenScales>
DecodeLaunch decode_variant(int keys, int values, bool whole) {
  if (keys == 64 && values == 64)
    return whole ? launch_decode<DecodeLayout<kType, 64, 64, kTokenScales, true>>
                 : launch_decode<DecodeLayout<kType, 64, 64, kTokenScales, false>>;
  if (keys == 128 && values == 128)
    return whole ? launch_decode<DecodeLayout<kType, 128, 128, kTokenScales, true>>
                 : launch_decode<DecodeLayout<kType, 128, 128, kTokenScales, false>>;
  if (keys == 192 && values == 128)
    return whole ? launch_decode<DecodeLayout<kType, 192, 128, kTokenScales, true>>
                 : launch_decode<DecodeLayout<kType, 192, 128, kTokenScales, false>>;
  return nullptr;
}

}  // namespace ashlar::cuda
