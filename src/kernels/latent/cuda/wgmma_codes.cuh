#pragma once

// FP8 rows as the left operands of warpgroup products: codes of a raw tile are read, widened to f16
// in registers and multiplied behind the program, so that no 16-bit tile ever exists.
//
// A unit is what one load of 16 codes a lane feeds: two steps of 16 deep. Three units' operands are
// held at a time: one is widened while two are multiplied.

#include "kernels/cuda/f8.cuh"
#include "kernels/cuda/wgmma.cuh"
#include "kernels/latent/cuda/ring.cuh"
#include "kernels/latent/cuda/wgmma_splits.cuh"

namespace ashlar::cuda {

constexpr int kCodeTokens = 64;
constexpr int kOperands = 3;

using CodeTile = RowTile<DType::f8e4m3, kCodeTokens>;       // e5m2 too
using QueryTile = RowTile<DType::bf16, kWgmmaRows>;         // of f16, a query a "token"
constexpr int kWeightBytes = kCodeTokens * kWgmmaRows * 2;  // [token][row] f16
constexpr int kWeightLine = kWgmmaRows * 2;

class CodeOperands {
  static constexpr int kScoreUnits = 2 * CodeTile::kColumns, kValueUnits = 8;

 public:
  // The operand to begin values with: after scores without a finish(), or before scores.
  static constexpr int kAfterScores = kScoreUnits % kOperands;
  static constexpr int kBeforeScores = (kOperands - kValueUnits % kOperands) % kOperands;

  // Units of K: tokens 16 w.. of warp w by 32 elements. scores += K Q^T.
  template <DType kStored>
  __device__ void score(float (&scores)[32], uint32_t tile, uint32_t queries, int warp, int lane) {
    const uint32_t from = tile + CodeTile::offset(16 * warp + lane % 16, lane / 16);
    const uint64_t q = tile_descriptor(queries, 8 * QueryTile::kLine);
    stream<0, kScoreUnits>(
        [&](int u, uint32_t(&codes)[4]) {
          load_matrix(codes, (from ^ 32 * (u % 2)) + u / 2 * CodeTile::kColumnBytes);
        },
        [&](const uint32_t(&codes)[4], uint32_t(&a)[8]) {
#pragma unroll
          for (int i = 0; i < 4; ++i)
            widen_f8<kStored>(codes[i], a[i / 2 * 4 + i % 2], a[i / 2 * 4 + i % 2 + 2]);
        },
        [&](int u, const uint32_t(&a)[8]) {
          const uint64_t step = (u / 2 * QueryTile::kColumnBytes + u % 2 * 64) >> 4;
          multiply_registers_along<__half>(scores, a, q + step, true);
          multiply_registers_along<__half>(scores, a + 4, q + step + 2, true);
        });
  }

  // Units of V^T: columns 16 w.. of four times 64 by 32 tokens. sums += V^T P. kFirst: the operand
  // to begin with.
  template <DType kStored, int kFirst>
  __device__ void add_values(float (&sums)[4][32], uint32_t columns, uint32_t weights, int warp,
                             int lane) {
    const uint32_t from = columns + CodeTile::offset(lane, warp);
    const uint64_t p = tile_descriptor(weights, 8 * kWeightLine);
    stream<kFirst, kValueUnits>(
        [&](int u, uint32_t(&codes)[4]) {
          load_matrix_transposed(
              codes, from + u / 2 * CodeTile::kColumnBytes + u % 2 * 32 * CodeTile::kLine);
        },
        [&](const uint32_t(&codes)[4], uint32_t(&a)[8]) {
#pragma unroll
          for (int i = 0; i < 4; ++i) split_f8<kStored>(codes[i], a[2 * i], a[2 * i + 1]);
        },
        [&](int u, const uint32_t(&a)[8]) {
          const uint64_t step = u % 2 * 32 * kWeightLine >> 4;
          multiply_registers<__half>(sums[u / 2], a, p + step, true);
          multiply_registers<__half>(sums[u / 2], a + 4, p + step + (16 * kWeightLine >> 4), true);
        });
  }

  // All products have ended.
  __device__ void finish() {
    wgmma_wait<0>();
#pragma unroll
    for (int i = 0; i < kOperands; ++i) held(a_[i]);
  }

 private:
  template <int kFirst, int kUnits, class Load, class Widen, class Multiply>
  __device__ void stream(Load load, Widen widen, Multiply multiply) {
    uint32_t codes[4];
    load(0, codes);
#pragma unroll
    for (int u = 0; u < kUnits; ++u) {
      uint32_t(&a)[8] = a_[(kFirst + u) % kOperands];
      widen(codes, a);
      if (u + 1 < kUnits) load(u + 1, codes);
      held(a);
      wgmma_fence();
      multiply(u, a);
      wgmma_commit();
      wgmma_wait<kOperands - 1>();
      held(a_[(kFirst + u + 1) % kOperands]);
    }
  }

  uint32_t a_[kOperands][8] = {};
};

}  // namespace ashlar::cuda
