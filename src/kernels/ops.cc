#include "kernels/ops.h"

namespace ashlar {

Ops cpu_ops(Isa isa) {
  return {.backend = "cpu",
          .isa = isa,
          .attention_isa = isa,
          .rms_norm = rms_norm_cpu(isa),
          .rope = rope_cpu(isa),
          .silu_mul = silu_mul_cpu(isa),
          .gemm = gemm_cpu(isa),
          .experts = experts_cpu(isa),
          .kv_write = kv_write_cpu(isa),
          .attention = attention_cpu(isa),
          .latent = latent_cpu(isa),
          .causal_conv = causal_conv_cpu(isa),
          .delta_gates = delta_gates,
          .delta = delta_cpu(isa),
          .gated_norm = gated_norm_cpu(isa)};
}

Ops reference_ops() {
  return {.backend = "reference",
          .isa = Isa::baseline,
          .attention_isa = Isa::baseline,
          .rms_norm = rms_norm_ref,
          .rope = rope_ref,
          .silu_mul = silu_mul_ref,
          .gemm = gemm_ref,
          .experts = experts_ref,
          .kv_write = kv_write_ref,
          .attention = attention_ref,
          .latent = latent_ref,
          .causal_conv = causal_conv_ref,
          .delta_gates = delta_gates_ref,
          .delta = delta_ref,
          .gated_norm = gated_norm_ref};
}

Ops with_attention(Ops ops, Isa isa) {
  ops.attention_isa = isa;
  ops.attention = attention_cpu(isa);
  ops.latent = latent_cpu(isa);
  return ops;
}

std::string body_name(const Ops& ops, DType compute, DType stored) {
  const bool dots = compute == DType::bf16 && stored == DType::bf16;
  const Isa isa = ops.isa == Isa::avx512_bf16 && !dots ? Isa::avx512 : ops.isa;
  return fmt::format("{} {}", ops.backend, name(isa));
}

}  // namespace ashlar
