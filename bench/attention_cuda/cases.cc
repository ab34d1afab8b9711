#include "bench/attention_cuda/cases.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace ashlar::bench {
namespace {

constexpr auto kLatent = AttentionForm::latent;
constexpr int32_t kMostDecodeRows = 64;  // beyond, rows are a prompt's

const Layer kGqa{.shape = {.heads = 64, .kv_heads = 4, .k_dim = 192, .v_dim = 128}};
const Layer kEqual{.shape = {.heads = 32, .kv_heads = 8, .k_dim = 128, .v_dim = 128}};
const Layer kSmall{.shape = {.heads = 64, .kv_heads = 8, .k_dim = 64, .v_dim = 64}};
const Layer kWide{.shape = {.heads = 16, .kv_heads = 4, .k_dim = 256, .v_dim = 256}};
const Layer kWindow{
    .shape = {.heads = 64, .kv_heads = 8, .k_dim = 192, .v_dim = 128, .window = 128},
    .sinks = true};
const Layer kLatent16{.form = kLatent, .shape = {.heads = 16, .k_dim = 576, .v_dim = 512}};
const Layer kLatent64{.form = kLatent, .shape = {.heads = 64, .k_dim = 576, .v_dim = 512}};
const Layer kLatent128{.form = kLatent, .shape = {.heads = 128, .k_dim = 576, .v_dim = 512}};

constexpr Storage kBf16{};
constexpr Storage kE4m3{.dtype = DType::f8e4m3};
constexpr Storage kE5m2{.dtype = DType::f8e5m2};
constexpr Storage kOwnScales{.dtype = DType::f8e4m3, .token_scales = true};
constexpr Storage kBf16Of16{.page_tokens = 16};
constexpr Storage kE4m3Of16{.dtype = DType::f8e4m3, .page_tokens = 16};
constexpr Storage kBf16InOrder{.in_order = true};
constexpr Storage kE4m3InOrder{.dtype = DType::f8e4m3, .in_order = true};
constexpr Storage kBf16Apart{.gap_tokens = 7};
constexpr Storage kE4m3Apart{.dtype = DType::f8e4m3, .gap_tokens = 7};

constexpr const char* kDecode = "Decode";
constexpr const char* kWindows = "Decode, window 128 with sinks";
constexpr const char* kLatents = "Decode, latents 512 + 64";
constexpr const char* kPrefill = "Causal prefill";
constexpr const char* kPages = "Pages";
constexpr const char* kMixed = "Batches";

const char* short_name(DType dtype) {
  if (dtype == DType::f8e4m3) return "e4m3";
  return dtype == DType::f8e5m2 ? "e5m2" : "bf16";
}

constexpr const char* kTrtF8 = "TRT-LLM FMHA v2, FP8 queries";
constexpr const char* kFlashMlaF8 = "FlashMLA of vLLM, FP8 queries";

}  // namespace

std::vector<Case> cases() {
  return {
      {"gqa bf16 b1", kDecode, kGqa, {{1, 1, 8192}}, kBf16, {14, 10, 21.3, "FA3"}},
      {"gqa bf16 b32", kDecode, kGqa, {{32, 1, 8192}}, kBf16, {180, 165, 174, "FA3"}},
      {"gqa bf16 b128", kDecode, kGqa, {{128, 1, 8192}}, kBf16, {630, 615, 616, "FlashInfer"}},
      {"gqa e4m3 b1", kDecode, kGqa, {{1, 1, 8192}}, kE4m3, {12, 8, 21.2, "FA3, FP8 queries"}},
      {"gqa e4m3 b32", kDecode, kGqa, {{32, 1, 8192}}, kE4m3, {105, 90, 150, "FlashInfer"}},
      {"gqa e4m3 b128", kDecode, kGqa, {{128, 1, 8192}}, kE4m3, {400, 340, 508, "FlashInfer"}},
      {"gqa e4m3 own scales b1", kDecode, kGqa, {{1, 1, 8192}}, kOwnScales, {}},
      {"gqa e4m3 own scales b32", kDecode, kGqa, {{32, 1, 8192}}, kOwnScales, {}},
      {"gqa e4m3 own scales b128", kDecode, kGqa, {{128, 1, 8192}}, kOwnScales, {}},
      {"gqa e5m2 b32", kDecode, kGqa, {{32, 1, 8192}}, kE5m2, {}},
      {"equal bf16 b1", kDecode, kEqual, {{1, 1, 8192}}, kBf16, {}},
      {"equal bf16 b32", kDecode, kEqual, {{32, 1, 8192}}, kBf16, {}},
      {"equal e4m3 b32", kDecode, kEqual, {{32, 1, 8192}}, kE4m3, {}},
      {"equal bf16 1k b32", kDecode, kEqual, {{32, 1, 1024}}, kBf16, {}},

      {"window bf16 b1", kWindows, kWindow, {{1, 1, 8192}}, kBf16, {6, 4.5, 13.7, "FA3"}},
      {"window bf16 b32", kWindows, kWindow, {{32, 1, 8192}}, kBf16, {11, 8, 18.8, "FlashInfer"}},
      {"window bf16 b128", kWindows, kWindow, {{128, 1, 8192}}, kBf16, {30, 25, 43.1, "Triton"}},
      {"window e4m3 b1", kWindows, kWindow, {{1, 1, 8192}}, kE4m3, {0, 0, 10.2, "XQA"}},
      {"window e4m3 b32", kWindows, kWindow, {{32, 1, 8192}}, kE4m3, {0, 0, 13.9, "XQA"}},
      {"window e4m3 b128", kWindows, kWindow, {{128, 1, 8192}}, kE4m3, {0, 0, 40.3, "XQA"}},

      {"latent16 bf16 b1", kLatents, kLatent16, {{1, 1, 8192}}, kBf16, {0, 0, 19.9, "FlashMLA"}},
      {"latent16 bf16 b32",
       kLatents,
       kLatent16,
       {{32, 1, 8192}},
       kBf16,
       {90, 80, 88, "FlashInfer"}},
      {"latent16 bf16 b128",
       kLatents,
       kLatent16,
       {{128, 1, 8192}},
       kBf16,
       {300, 285, 290, "FlashMLA"}},
      {"latent16 e4m3 b1", kLatents, kLatent16, {{1, 1, 8192}}, kE4m3, {0, 0, 18.1, kFlashMlaF8}},
      {"latent16 e4m3 b32", kLatents, kLatent16, {{32, 1, 8192}}, kE4m3, {60, 45, 69, kFlashMlaF8}},
      {"latent16 e4m3 b128",
       kLatents,
       kLatent16,
       {{128, 1, 8192}},
       kE4m3,
       {190, 160, 217, kFlashMlaF8}},
      {"latent16 bf16 1k b32",
       kLatents,
       kLatent16,
       {{32, 1, 1024}},
       kBf16,
       {0, 0, 24.0, "FlashInfer"}},
      {"latent16 bf16 32k b32",
       kLatents,
       kLatent16,
       {{32, 1, 32768}},
       kBf16,
       {0, 0, 293, "FlashMLA"}},
      {"latent16 bf16 q4 b32", kLatents, kLatent16, {{32, 4, 8192}}, kBf16, {}},
      {"latent64 bf16 b32", kLatents, kLatent64, {{32, 1, 8192}}, kBf16, {0, 0, 94, "FlashInfer"}},
      {"latent64 e4m3 b32", kLatents, kLatent64, {{32, 1, 8192}}, kE4m3, {0, 0, 73, kFlashMlaF8}},
      {"latent128 bf16 b1", kLatents, kLatent128, {{1, 1, 8192}}, kBf16, {}},
      {"latent128 bf16 b32",
       kLatents,
       kLatent128,
       {{32, 1, 8192}},
       kBf16,
       {150, 125, 127, "FlashMLA"}},
      {"latent128 bf16 b128",
       kLatents,
       kLatent128,
       {{128, 1, 8192}},
       kBf16,
       {500, 450, 453, "FlashMLA"}},
      {"latent128 e4m3 b1", kLatents, kLatent128, {{1, 1, 8192}}, kE4m3, {}},
      {"latent128 e4m3 b32",
       kLatents,
       kLatent128,
       {{32, 1, 8192}},
       kE4m3,
       {150, 120, 122, kFlashMlaF8}},
      {"latent128 e4m3 b128",
       kLatents,
       kLatent128,
       {{128, 1, 8192}},
       kE4m3,
       {500, 440, 422, kFlashMlaF8}},

      {"prefill bf16 2k", kPrefill, kGqa, {{1, 2048, 2048}}, kBf16, {178, 0, 178, "FA3"}},
      {"prefill bf16 8k", kPrefill, kGqa, {{1, 8192, 8192}}, kBf16, {2400, 0, 2136, "FA3"}},
      {"prefill bf16 32k", kPrefill, kGqa, {{1, 32768, 32768}}, kBf16, {39000, 0, 36981, "FA3"}},
      {"prefill bf16 end of 32k",
       kPrefill,
       kGqa,
       {{1, 2048, 32768}},
       kBf16,
       {4053, 0, 4053, "FA3"}},
      {"prefill e4m3 2k", kPrefill, kGqa, {{1, 2048, 2048}}, kE4m3, {0, 0, 140, kTrtF8}},
      {"prefill e4m3 8k", kPrefill, kGqa, {{1, 8192, 8192}}, kE4m3, {2700, 0, 1893, kTrtF8}},
      {"prefill e4m3 32k", kPrefill, kGqa, {{1, 32768, 32768}}, kE4m3, {43000, 0, 28857, kTrtF8}},
      {"prefill e4m3 end of 32k", kPrefill, kGqa, {{1, 2048, 32768}}, kE4m3, {0, 0, 3690, kTrtF8}},
      {"prefill window bf16 8k", kPrefill, kWindow, {{1, 8192, 8192}}, kBf16, {230, 0, 238, "FA3"}},
      {"prefill window e4m3 8k", kPrefill, kWindow, {{1, 8192, 8192}}, kE4m3, {0, 0, 188, kTrtF8}},
      {"prefill equal bf16 8k", kPrefill, kEqual, {{1, 8192, 8192}}, kBf16, {}},
      {"prefill equal e4m3 8k", kPrefill, kEqual, {{1, 8192, 8192}}, kE4m3, {}},
      {"prefill 64/64 bf16 8k", kPrefill, kSmall, {{1, 8192, 8192}}, kBf16, {}},
      {"prefill 256/256 bf16 8k", kPrefill, kWide, {{1, 8192, 8192}}, kBf16, {}},

      {"pages gqa bf16 in order", kPages, kGqa, {{32, 1, 8192}}, kBf16InOrder, {}},
      {"pages gqa bf16 apart", kPages, kGqa, {{32, 1, 8192}}, kBf16Apart, {}},
      {"pages gqa bf16 of 16", kPages, kGqa, {{32, 1, 8192}}, kBf16Of16, {}},
      {"pages gqa e4m3 in order", kPages, kGqa, {{32, 1, 8192}}, kE4m3InOrder, {}},
      {"pages gqa e4m3 apart", kPages, kGqa, {{32, 1, 8192}}, kE4m3Apart, {}},
      {"pages gqa e4m3 of 16", kPages, kGqa, {{32, 1, 8192}}, kE4m3Of16, {}},
      {"pages window bf16 in order", kPages, kWindow, {{128, 1, 8192}}, kBf16InOrder, {}},
      {"pages window bf16 of 16", kPages, kWindow, {{128, 1, 8192}}, kBf16Of16, {}},
      {"pages latent16 bf16 in order", kPages, kLatent16, {{32, 1, 8192}}, kBf16InOrder, {}},
      {"pages latent16 bf16 apart", kPages, kLatent16, {{32, 1, 8192}}, kBf16Apart, {}},
      {"pages latent16 bf16 of 16", kPages, kLatent16, {{32, 1, 8192}}, kBf16Of16, {}},
      {"pages latent16 e4m3 of 16", kPages, kLatent16, {{32, 1, 8192}}, kE4m3Of16, {}},
      {"pages latent128 bf16 of 16", kPages, kLatent128, {{32, 1, 8192}}, kBf16Of16, {}},
      {"pages prefill bf16 in order", kPages, kGqa, {{1, 8192, 8192}}, kBf16InOrder, {}},
      {"pages prefill bf16 of 16", kPages, kGqa, {{1, 8192, 8192}}, kBf16Of16, {}},
      {"pages prefill e4m3 of 16", kPages, kGqa, {{1, 8192, 8192}}, kE4m3Of16, {}},

      {"gqa bf16 ragged",
       kMixed,
       kGqa,
       {{16, 1, 1000}, {8, 1, 5000}, {4, 1, 12000}, {3, 1, 24000}, {1, 1, 70000}},
       kBf16,
       {}},
      {"gqa bf16 q4 b32", kMixed, kGqa, {{32, 4, 8192}}, kBf16, {}},
      {"gqa bf16 chunk and rows", kMixed, kGqa, {{1, 2048, 8192}, {63, 1, 8192}}, kBf16, {}},
      {"gqa e4m3 chunk and rows", kMixed, kGqa, {{1, 2048, 8192}, {63, 1, 8192}}, kE4m3, {}},
      {"window bf16 chunk and rows", kMixed, kWindow, {{1, 2048, 8192}, {63, 1, 8192}}, kBf16, {}},
      {"latent128 bf16 chunk and rows",
       kMixed,
       kLatent128,
       {{1, 256, 8192}, {31, 1, 8192}},
       kBf16,
       {}},
  };
}

std::span<const Ratio> ratios() {
  static constexpr std::array kRatios = {
      Ratio{"gqa bf16, scattered over in order", "gqa bf16 b32", "pages gqa bf16 in order", 1.03},
      Ratio{"gqa bf16, with gaps", "pages gqa bf16 apart", "gqa bf16 b32", 1.03},
      Ratio{"gqa bf16, pages of 16 over 64", "pages gqa bf16 of 16", "gqa bf16 b32", 1.08},
      Ratio{"gqa e4m3, scattered over in order", "gqa e4m3 b32", "pages gqa e4m3 in order", 1.03},
      Ratio{"gqa e4m3, with gaps", "pages gqa e4m3 apart", "gqa e4m3 b32", 1.03},
      Ratio{"gqa e4m3, pages of 16 over 64", "pages gqa e4m3 of 16", "gqa e4m3 b32", 1.08},
      Ratio{"window bf16, scattered over in order", "window bf16 b128",
            "pages window bf16 in order", 1.03},
      Ratio{"window bf16, pages of 16 over 64", "pages window bf16 of 16", "window bf16 b128",
            1.08},
      Ratio{"latent16 bf16, scattered over in order", "latent16 bf16 b32",
            "pages latent16 bf16 in order", 1.03},
      Ratio{"latent16 bf16, with gaps", "pages latent16 bf16 apart", "latent16 bf16 b32", 1.03},
      Ratio{"latent16 bf16, pages of 16 over 64", "pages latent16 bf16 of 16", "latent16 bf16 b32",
            1.08},
      Ratio{"latent16 e4m3, pages of 16 over 64", "pages latent16 e4m3 of 16", "latent16 e4m3 b32",
            1.08},
      Ratio{"latent128 bf16, pages of 16 over 64", "pages latent128 bf16 of 16",
            "latent128 bf16 b32", 1.08},
      Ratio{"prefill bf16, scattered over in order", "prefill bf16 8k",
            "pages prefill bf16 in order", 1.03},
      Ratio{"prefill bf16, pages of 16 over 64", "pages prefill bf16 of 16", "prefill bf16 8k",
            1.08},
      Ratio{"prefill e4m3, pages of 16 over 64", "pages prefill e4m3 of 16", "prefill e4m3 8k",
            1.08},
  };
  return kRatios;
}

AttentionNeed need_of(const Case& c) {
  const AttnShape& s = c.layer.shape;
  int32_t most_rows = 0;  // that share a KV head
  for (const Batch& b : c.batch) most_rows = std::max(most_rows, b.q_len * (s.heads / s.kv_heads));
  return {.form = c.layer.form,
          .step = most_rows <= kMostDecodeRows ? StepForm::decode : StepForm::prefill,
          .heads = s.heads,
          .kv_heads = s.kv_heads,
          .k_dim = s.k_dim,
          .v_dim = s.v_dim,
          .window = s.window,
          .sinks = c.layer.sinks,
          .query = DType::bf16,
          .pages = c.storage.dtype,
          .token_scales = c.storage.token_scales,
          .page_tokens = c.storage.page_tokens};
}

std::string to_text(const Case& c) {
  const AttnShape& s = c.layer.shape;
  std::string text = c.layer.form == kLatent ? fmt::format("{} heads", s.heads)
                                             : fmt::format("{}/{}, {} heads over {}", s.k_dim,
                                                           s.v_dim, s.heads, s.kv_heads);
  if (s.window > 0) text += fmt::format(", window {}", s.window);
  text += fmt::format(", {}", short_name(c.storage.dtype));
  if (c.storage.token_scales) text += " with token scales";
  if (c.storage.page_tokens != 64) text += fmt::format(", pages of {}", c.storage.page_tokens);
  if (c.storage.in_order) text += ", in order";
  if (c.storage.gap_tokens > 0) text += ", with gaps";
  const char* before = ", ";
  for (const Batch& b : c.batch) {
    text += before;
    if (b.n > 1 || b.q_len == 1) text += fmt::format("{} x ", b.n);
    if (b.q_len == b.kv_len)
      text += fmt::format("a prompt of {}", b.kv_len);
    else
      text += b.q_len == 1 ? fmt::format("{}", b.kv_len)
                           : fmt::format("last {} of {}", b.q_len, b.kv_len);
    before = " + ";
  }
  return text;
}

Roof work_of(const Case& c) {
  const AttnShape& s = c.layer.shape;
  const bool latent = c.layer.form == kLatent;
  const double stored = size_of(c.storage.dtype);
  const double width = s.k_dim + s.v_dim;
  const double row_bytes = (latent ? s.k_dim : width) * stored + (c.storage.token_scales ? 8 : 0);
  Roof work;
  for (const Batch& b : c.batch) {
    double pairs = 0;
    for (int64_t i = 0; i < b.q_len; ++i) {
      const int64_t all = int64_t{b.kv_len} - i;
      pairs += static_cast<double>(s.window > 0 ? std::min<int64_t>(all, s.window) : all);
    }
    const int32_t seen = s.window > 0 ? std::min(b.kv_len, s.window + b.q_len - 1) : b.kv_len;
    work.bytes += b.n * (s.kv_heads * seen * row_bytes + double{width} * b.q_len * s.heads * 2);
    work.flops += b.n * 2 * pairs * s.heads * width;
  }
  return work;
}

}  // namespace ashlar::bench
