#pragma once

// The operations table: what a model calls, one row per op. A backend fills it by name; the
// reference table is a backend too, so whole models can be run against it.

#include <string>

#include "kernels/act/gate.h"
#include "kernels/act/silu_mul.h"
#include "kernels/attention/attention.h"
#include "kernels/delta/causal_conv.h"
#include "kernels/delta/delta.h"
#include "kernels/embed/embed.h"
#include "kernels/gemm/gemm.h"
#include "kernels/isa.h"
#include "kernels/latent/latent.h"
#include "kernels/moe/moe.h"
#include "kernels/norm/gated_norm.h"
#include "kernels/norm/rms_norm.h"
#include "kernels/rope/rope.h"
#include "kernels/sample/sample.h"

namespace ashlar {

struct Ops {
  const char* backend;  // "reference", "cpu"
  Isa isa;
  Isa attention_isa;  // of attention and latent
  RmsNormFn rms_norm;
  RopeFn rope;
  SiluMulFn silu_mul;
  GemmFn gemm;
  ExpertsFn experts;
  KvWriteFn kv_write;
  AttentionFn attention;
  LatentFn latent;
  CausalConvFn causal_conv;
  DeltaGatesFn delta_gates;
  DeltaFn delta;
  GatedNormFn gated_norm;
};

// REQUIRES that this machine runs `isa`.
Ops cpu_ops(Isa isa);
Ops reference_ops();

// The same with another set's attention. REQUIRES that this machine runs it.
Ops with_attention(Ops ops, Isa isa);

// Which body multiplies when `stored` matrices are computed as `compute`: "cpu avx512_bf16", or the
// float body of the nearest lesser set. Attention's bodies: kernels/attention/backends.h.
std::string body_name(const Ops& ops, DType compute, DType stored);

}  // namespace ashlar
