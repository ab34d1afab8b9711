#pragma once

// Matrix product with weights: y[m, n] (+)= sum_k x[m, k] * w[n, k] (+ bias[n]).
//
// Weights stay as the checkpoint stores them (matrix.h), so that a mapped file is usable as it
// lies. `compute` says what the products are made of: bf16 rounds x to bf16 (w must be bf16 or
// quantised) and multiplies in pairs with float accumulation; f32 widens w and multiplies in float.
// Codes are not rounded: e4m3 and e2m1 are exact in bf16, scales of f8e4m3 multiply float sums of
// 128 products, scales of MXFP4 are powers of two (2^-125 to 2^125; bf16 takes others as those).
// Each y[m, n] is accumulated in an order fixed by K and the instruction set alone, so a row's
// result depends neither on M nor on the rows around it nor on the number of threads: one = many,
// whole = chunked, bit for bit.
//
// Engine thread (the pool's caller). M = 0 is allowed and does nothing.

#include <span>

#include "base/pool.h"
#include "kernels/isa.h"
#include "tensor/matrix.h"
#include "tensor/roof.h"
#include "tensor/view.h"

namespace ashlar {

struct GemmParams {
  ConstView x;                     // [M, K] f32, rows dense
  Matrix w;                        // [N, K]; K of MXFP4 a multiple of 32
  const float* bias = nullptr;     // [N], nullable
  View y;                          // [M, N] f32, rows dense; must not overlap x
  bool accumulate = false;         // y += instead of y =
  DType compute = DType::bf16;     // bf16 (not of f16, f32 weights) or f32
  std::span<std::byte> workspace;  // at least gemm_workspace_bytes(M, K), 64-byte aligned
};

using GemmFn = void (*)(const GemmParams&, Pool&);

// Scratch for one call of M rows of K; grows with both.
int64_t gemm_workspace_bytes(int64_t m, int64_t k);

void gemm_ref(const GemmParams& params, Pool& pool);
GemmFn gemm_cpu(Isa isa);

Roof roof(const GemmParams& params);

}  // namespace ashlar
