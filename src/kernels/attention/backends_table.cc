#include <array>

#include "kernels/attention/attention.h"
#include "kernels/attention/backends.h"
#include "kernels/attention/cuda/attention_cuda.h"

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

constexpr std::array kPrefillWidths = {Widths{48, 32},  Widths{64, 64},   Widths{80, 80},
                                       Widths{96, 96},  Widths{128, 128}, Widths{192, 128},
                                       Widths{256, 256}};
constexpr std::array kPrefillF8Widths = {Widths{64, 64}, Widths{128, 128}, Widths{192, 128},
                                         Widths{256, 256}};
constexpr std::array kMmaWidths = {Widths{48, 32}, Widths{64, 64}, Widths{96, 96},
                                   Widths{128, 128}};
constexpr std::array kMma192Widths = {Widths{192, 128}};
constexpr std::array kDecodeWidths = {Widths{64, 64}, Widths{128, 128}, Widths{192, 128}};
constexpr std::array kWideWidths = {Widths{256, 256}};
constexpr std::array kLatentWidths = {Widths{576, 512}};

constexpr auto kHeads = AttentionForm::heads;
constexpr auto kLatent = AttentionForm::latent;

constexpr AttentionBackend mma_row(const char* name, std::span<const Widths> widths) {
  return {.name = name,
          .form = kHeads,
          .least = cuda(80),
          .widths = widths,
          .queries = kHalves,
          .pages = kHalves | kF8,
          .same_type = true,
          .token_scales = true,
          .least_page = 16,
          .shared_kib = mma_shared_kib(widths.back().k),
          .how = "warp products of 16 rows, asynchronous copies"};
}

constexpr AttentionBackend wgmma_f8_row(const char* name, DTypeSet pages, bool token_scales) {
  return {.name = name,
          .form = kHeads,
          .least = cuda(90),
          .this_sm_only = true,
          .decode = false,
          .widths = kPrefillF8Widths,
          .queries = one_of({DType::bf16}),
          .pages = pages,
          .token_scales = token_scales,
          .least_page = 16,
          .how = "the same, with warpgroups that widen FP8 to f16 on the way"};
}

// FP8: one warp copies a box of tokens of each page, and smaller ones, or tokens' scales, keep it
// busy longer than the sums take; the mma row is faster there.
constexpr AttentionBackend decode_row(const char* name, DTypeSet pages, int32_t least_page) {
  return {.name = name,
          .form = kHeads,
          .least = cuda(90),
          .this_sm_only = true,
          .prefill = false,
          .widths = kDecodeWidths,
          .queries = kHalves,
          .pages = pages,
          .same_type = true,
          .least_page = least_page,
          .how = "warp products of tokens by 8 or 16 queries, tensor copies"};
}

// Whatever the others leave, and what they are checked against.
constexpr AttentionBackend plain_row(AttentionForm form) {
  return {.name = "cuda_plain",
          .form = form,
          .least = cuda(80),
          .queries = kHalves,
          .pages = kHalves | kF8,
          .same_type = true,
          .token_scales = true,
          .bidirectional = form == kHeads,
          .how = "float, any widths"};
}

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
                     .pages = kHalves,
                     .same_type = true,
                     .least_page = 16,
                     .how = "warpgroup products, tensor copies, warpgroups in turn"},
    wgmma_f8_row("cuda_wgmma_f8", one_of({DType::f8e4m3}), /*token_scales=*/true),
    wgmma_f8_row("cuda_wgmma_e5m2", one_of({DType::f8e5m2}), /*token_scales=*/false),
    decode_row("cuda_decode", kHalves, /*least_page=*/16),
    decode_row("cuda_decode_f8", kF8, /*least_page=*/32),
    mma_row("cuda_mma", kMmaWidths),
    mma_row("cuda_mma_192", kMma192Widths),
    mma_row("cuda_mma_256", kWideWidths),
    plain_row(kHeads),
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
                     .least_page = 16,
                     .most_page = 64,
                     .how = "warpgroup products of 64 rows, tensor copies"},
    AttentionBackend{.name = "cuda_mma",
                     .form = kLatent,
                     .least = cuda(80),
                     .widths = kLatentWidths,
                     .queries = kHalves,
                     .pages = kHalves | kF8,
                     .same_type = true,
                     .bidirectional = false,
                     .least_page = 16,
                     .most_page = 64,
                     .shared_kib = 163,
                     .how = "warp products of 16 rows"},
    plain_row(kLatent),
};

}  // namespace

std::span<const AttentionBackend> attention_backends() { return kTable; }

}  // namespace ashlar
