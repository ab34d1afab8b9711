#include <array>

#include "kernels/attention/attention.h"
#include "kernels/attention/backends.h"

namespace ashlar {
namespace {

constexpr DTypeSet kFloats = one_of({DType::f32, DType::bf16, DType::f16});
constexpr DTypeSet kHalves = one_of({DType::bf16, DType::f16});
constexpr DTypeSet kF8 = one_of({DType::f8e4m3, DType::f8e5m2});

constexpr Device cpu(Isa isa) { return {.kind = Device::Kind::cpu, .isa = isa}; }
constexpr Device cuda(int32_t sm) { return {.kind = Device::Kind::cuda, .sm = sm}; }

// CPU bodies of one form differ in their arithmetic only: products of bf16 want pages whose numbers
// are bf16 numbers (fits_bf16).
constexpr AttentionBackend cpu_row(const char* name, Isa isa, AttentionForm form, const char* how) {
  const bool dots = isa == Isa::avx512_bf16;
  const bool latent = form == AttentionForm::latent;
  return {.name = name,
          .form = form,
          .least = cpu(isa),
          .queries = dots ? one_of({DType::bf16}) : one_of({DType::f32, DType::bf16}),
          .pages = (dots ? one_of({DType::bf16}) : kFloats) | kF8,
          .token_scales = true,
          .bidirectional = !latent,
          .max_group = latent ? 0 : kMaxQueriesPerKvHead,
          .how = how};
}

constexpr const char* kDots = "bf16 dot products, float sums";
constexpr const char* kFloat16 = "float, 16 lanes";
constexpr const char* kFloat8 = "float, 8 lanes";
constexpr const char* kFloat1 = "float, any x86-64";

constexpr std::array kPrefillWidths = {Widths{192, 128}, Widths{128, 128}};
constexpr std::array kMmaWidths = {Widths{64, 64},   Widths{96, 96},   Widths{128, 128},
                                   Widths{192, 128}, Widths{256, 256}, Widths{48, 32}};
constexpr std::array kLatentWidths = {Widths{576, 512}};

constexpr auto kHeads = AttentionForm::heads;
constexpr auto kLatent = AttentionForm::latent;

constexpr std::array kTable = {
    cpu_row("avx512_bf16", Isa::avx512_bf16, kHeads, kDots),
    cpu_row("avx512", Isa::avx512, kHeads, kFloat16),
    cpu_row("avx2", Isa::avx2, kHeads, kFloat8),
    cpu_row("baseline", Isa::baseline, kHeads, kFloat1),
    cpu_row("avx512_bf16", Isa::avx512_bf16, kLatent, kDots),
    cpu_row("avx512", Isa::avx512, kLatent, kFloat16),
    cpu_row("avx2", Isa::avx2, kLatent, kFloat8),
    cpu_row("baseline", Isa::baseline, kLatent, kFloat1),
    AttentionBackend{.name = "cuda_wgmma",
                     .form = kHeads,
                     .least = cuda(90),
                     .this_sm_only = true,
                     .decode = false,
                     .widths = kPrefillWidths,
                     .queries = kHalves,
                     .pages = kHalves | kF8,
                     .same_type = true,
                     .page_multiple = 16,
                     .how = "warpgroup products, tensor copies, two warpgroups in turn"},
    AttentionBackend{.name = "cuda_mma",
                     .form = kHeads,
                     .least = cuda(80),
                     .widths = kMmaWidths,
                     .queries = kHalves,
                     .pages = kHalves | kF8,
                     .same_type = true,
                     .token_scales = true,
                     .page_multiple = 16,
                     .how = "warp products of 16 rows, asynchronous copies, split over positions"},
    AttentionBackend{.name = "cuda_plain",
                     .form = kHeads,
                     .least = cuda(80),
                     .queries = kHalves,
                     .pages = kHalves | kF8,
                     .same_type = true,
                     .token_scales = true,
                     .how = "float, any widths"},
    AttentionBackend{.name = "cuda_wgmma",
                     .form = kLatent,
                     .least = cuda(90),
                     .this_sm_only = true,
                     .widths = kLatentWidths,
                     .queries = kHalves,
                     .pages = kHalves | kF8,
                     .same_type = true,
                     .bidirectional = false,
                     .min_group = 64,
                     .page_multiple = 16,
                     .how = "warpgroup products of 64 rows, tensor copies"},
    AttentionBackend{.name = "cuda_mma",
                     .form = kLatent,
                     .least = cuda(80),
                     .widths = kLatentWidths,
                     .queries = kHalves,
                     .pages = kHalves | kF8,
                     .same_type = true,
                     .bidirectional = false,
                     .page_multiple = 16,
                     .how = "warp products of 16 rows, asynchronous copies, split over positions"},
};

}  // namespace

std::span<const AttentionBackend> attention_backends() { return kTable; }

}  // namespace ashlar
