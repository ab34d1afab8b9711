#pragma once

// The multiplying side of prefill: one warpgroup, 64 rows. Its scores of a tile and its values of
// the tile before are multiplied behind each other, and while one group multiplies, the other does
// its softmax: they take turns.

#include "kernels/attention/cuda/prefill_load.cuh"
#include "kernels/attention/cuda/prefill_rows.cuh"
#include "kernels/cuda/wgmma.cuh"

namespace ashlar::cuda {

template <class P>
class RowMath {
 public:
  __device__ RowMath(PrefillShared<P>& shared, const PrefillParams& p, int group)
      : s_(shared), p_(p), group_(group) {
    row0_ = 64 * group + threadIdx.x / 32 % 4 * 16 + threadIdx.x % 32 / 4;
    if (group == P::kGroups - 1) pass_turn();
  }

  __device__ void run() {
    WorkListener<P> works;
    PrefillWork at;
    while (works.hear(s_, at)) {
      rows_.start(p_, at, row0_, P::kKv);
      s_.q_full[q_.slot].wait(q_.parity);
      if constexpr (!std::is_same_v<typename P::Half, typename P::QHalf>) convert_q();
      attend(at.work);
      float scale[2];
      rows_.finish(p_, at.work, row0_, scale);
      store_rows<P>(p_, at, row0_, out_, scale);
    }
  }

 private:
  __device__ void take_turn() { sync_threads(kTurnBarrier + group_, 2 * kWarpgroup); }
  __device__ void pass_turn() {
    const int next = group_ + 1 < P::kGroups ? group_ + 1 : 0;
    arrive_threads(kTurnBarrier + next, 2 * kWarpgroup);
  }

  __device__ void attend(const CudaWork& work) {
#pragma unroll
    for (float& o : out_) o = 0;
    s_.k_full[k_.slot].wait(k_.parity);
    take_turn();
    wgmma_fence();
    multiply_scores();
    wgmma_commit();
    pass_turn();
    wgmma_wait<0>();
    held(scores_);
    release_k(rows_.tile_begin);
    float alpha[2];
    weigh(rows_.tile_begin, alpha);
    pack_weights();
    for (int32_t tile = rows_.tile_begin + 1; tile < rows_.tile_end; ++tile) {
      s_.k_full[k_.slot].wait(k_.parity);
      await_v(work, tile - 1);
      take_turn();
      held(out_);
      held(weights_);
      wgmma_fence();
      multiply_scores();
      wgmma_commit();
      multiply_values();
      wgmma_commit();
      pass_turn();
      wgmma_wait<1>();
      held(scores_);
      release_k(tile);
      weigh(tile, alpha);
      wgmma_wait<0>();
      held(out_);
      held(weights_);
      release_v();
      if (__any_sync(~0u, alpha[0] != 1 || alpha[1] != 1)) {
#pragma unroll
        for (int i = 0; i < kOut; ++i) out_[i] *= alpha[i / 2 % 2];
      }
      pack_weights();
    }
    await_v(work, rows_.tile_end - 1);
    held(out_);
    held(weights_);
    wgmma_fence();
    multiply_values();
    wgmma_commit();
    wgmma_wait<0>();
    held(out_);
    release_v();
  }

  // bf16 queries become f16, each row scaled by a power of two so that none overflows and few
  // vanish. Two lanes a row, whose pieces of 16 bytes never meet in a bank.
  __device__ void convert_q() {
    constexpr int kPieces = P::kKChunks * 4;
    const int row = 64 * group_ + threadIdx.x % kWarpgroup / 2;
    uint8_t* q = s_.q[q_.slot] + row * kChunkBytes;
    const auto piece = [&](int i) {
      const int place = (i % 4 + 4 * (threadIdx.x % 2)) ^ (row % 8);
      return reinterpret_cast<uint4*>(q + i / 4 * P::kRows * kChunkBytes + place * 16);
    };
    float largest = 0;
#pragma unroll 2
    for (int i = 0; i < kPieces; ++i) largest = fmaxf(largest, largest_of(*piece(i)));
    largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, 1));
    // largest becomes 2^10 .. 2^11: f16 keeps what is 2^24 times smaller.
    const int exponent = ::min(::max(static_cast<int>(__float_as_uint(largest) >> 23), 20), 250);
    const float up = __uint_as_float((264 - exponent) << 23);
#pragma unroll 2
    for (int i = 0; i < kPieces; ++i) *piece(i) = scaled_f16(*piece(i), up);
    if (threadIdx.x % 2 == 0)
      s_.row_factors[row] = p_.score_factor * __uint_as_float((exponent - 10) << 23);
    fence_proxy_async();
    sync_threads(kGroupBarrier + group_, kWarpgroup);
    rows_.factor[0] = s_.row_factors[row0_];
    rows_.factor[1] = s_.row_factors[row0_ + 8];
  }

  // scores = q k^T of the tile at hand.
  __device__ void multiply_scores() {
    const uint64_t q =
        tile_descriptor(shared_address(s_.q[q_.slot]) + group_ * 64 * kChunkBytes, kAtomBytes);
    const uint64_t k = tile_descriptor(shared_address(s_.k[k_.slot]), kAtomBytes);
#pragma unroll
    for (int i = 0; i < P::kKWidth / 16; ++i) {  // 32 bytes along each row
      const int chunk = i / 4, within = i % 4 * 32;
      multiply_shared<typename P::Half>(scores_, q + (chunk * P::kRows * kChunkBytes + within) / 16,
                                        k + (chunk * P::kKv * kChunkBytes + within) / 16, i > 0);
    }
  }

  // out += weights v, of the tile before the one whose scores are being made.
  __device__ void multiply_values() {
    const uint64_t v =
        tile_descriptor(shared_address(s_.v[v_.slot]), kAtomBytes, P::kKv * kChunkBytes);
#pragma unroll
    for (int i = 0; i < P::kKv / 16; ++i) {  // 16 tokens
      multiply_registers<typename P::Half>(out_, weights_ + 4 * i, v + i * 2 * kAtomBytes / 16,
                                           true);
    }
  }

  __device__ void weigh(int32_t tile, float (&alpha)[2]) {
    if constexpr (P::kTokenScales) {
      const TokenScales<P::kKv>& scales = s_.scales[scales_.slot];
      scales_.step();
      scale_columns(scores_, scales.k);
      rows_.mask(scores_, tile * P::kKv);
      rows_.softmax(scores_, p_.softcap, alpha, &scales);
    } else {
      rows_.mask(scores_, tile * P::kKv);
      rows_.softmax(scores_, p_.softcap, alpha);
    }
  }

  __device__ void pack_weights() {
#pragma unroll
    for (int i = 0; i < kScores / 2; ++i)
      weights_[i] = pack<typename P::Half>(scores_[2 * i], scores_[2 * i + 1]);
  }

  // Waits for the values of `tile`, and zeroes those that nobody sees: they may be NaN, and a
  // weight of zero would not undo that. Every group does, so that none need wait for another.
  __device__ void await_v(const CudaWork& work, int32_t tile) {
    s_.v_full[v_.slot].wait(v_.parity);
    const int32_t token = tile * P::kKv;
    if (P::kWiden) return;  // is brought as zeros
    if (token >= work.kv_begin && token + P::kKv <= work.kv_end) return;
    uint8_t* v = s_.v[v_.slot];
    for (int i = threadIdx.x % kWarpgroup; i < P::kVBytes / 16; i += kWarpgroup) {
      const int32_t row = token + i / (kChunkBytes / 16) % P::kKv;
      if (row < work.kv_begin || row >= work.kv_end) reinterpret_cast<uint4*>(v)[i] = {0, 0, 0, 0};
    }
    fence_proxy_async();
    sync_threads(kGroupBarrier + group_, kWarpgroup);
  }

  __device__ void release_k(int32_t tile) {
    if (threadIdx.x % 32 == 0) s_.k_empty[k_.slot].arrive();
    k_.step();
    if (tile + 1 < rows_.tile_end) return;
    if (threadIdx.x % 32 == 0) s_.q_empty[q_.slot].arrive();  // the work's last scores
    q_.step();
  }

  __device__ void release_v() {
    if (threadIdx.x % 32 == 0) s_.v_empty[v_.slot].arrive();
    v_.step();
  }

  static constexpr int kScores = P::kKv / 2;
  static constexpr int kOut = P::kVWidth / 2;

  PrefillShared<P>& s_;
  const PrefillParams& p_;
  const int group_;
  int row0_;
  PrefillRows rows_;
  Ring<P::kQSlots> q_;
  Ring<P::kStages> k_, v_;
  Ring<P::kScaleSlots> scales_;
  float scores_[kScores];
  uint32_t weights_[kScores / 2];
  float out_[kOut];
};

}  // namespace ashlar::cuda
