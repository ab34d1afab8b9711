// The table of backends: every CPU row does what it says, what is refused is refused with its
// reason, and picking follows the table's order.

#include "kernels/attention/backends.h"

#include <gtest/gtest.h>

#include "kernels/attention/attention_testing.h"

namespace ashlar {
namespace {

constexpr DType kTypes[] = {DType::f32, DType::bf16, DType::f16, DType::f8e4m3, DType::f8e5m2};

Device cuda(int32_t sm) { return {.kind = Device::Kind::cuda, .sm = sm}; }

AttentionNeed heads_192_128() { return {.heads = 64, .kv_heads = 4, .k_dim = 192, .v_dim = 128}; }

const AttentionBackend& row_named(std::string_view name, AttentionForm form) {
  for (const AttentionBackend& row : attention_backends())
    if (row.name == name && row.form == form) return row;
  ADD_FAILURE() << name;
  return attention_backends().front();
}

// A row of this processor computes what it advertises, and the reference agrees.
TEST(Backends, EveryCpuRowServesWhatItSays) {
  Random random(11);
  const Device device{.isa = best_isa()};
  int n_run = 0;
  for (const AttentionBackend& row : attention_backends()) {
    if (row.form != AttentionForm::heads || row.least.kind != Device::Kind::cpu) continue;
    for (const DType query : kTypes) {
      for (const DType pages : kTypes) {
        for (const bool scales : {false, true}) {
          AttentionNeed need{.heads = 6, .kv_heads = 2, .k_dim = 40, .v_dim = 24, .query = query};
          need.pages = pages, need.token_scales = scales;
          if (scales && !is_f8(pages)) continue;
          if (!refusal(row, device, need).empty()) continue;
          const AttnShape shape{.heads = 6, .kv_heads = 2, .k_dim = 40, .v_dim = 24, .window = 20};
          AttnCase c = random_case(shape, {{1, 70}, {5, 33}}, pages, random);
          c.compute = query, c.token_scales = scales;
          c.sinks = random.normal(6);
          if (c.compute == DType::bf16 && !fits_bf16(pages)) continue;  // AttnParams::compute
          const std::vector<float> expected = run_attention(attention_ref, c);
          const std::vector<float> actual = run_attention(attention_cpu(row.least.isa), c);
          EXPECT_LT(relative_error(actual, expected), 3e-3) << row.name << " " << text(c);
          ++n_run;
        }
      }
    }
  }
  EXPECT_GE(n_run, 10);
}

TEST(Backends, TheFirstThatCanIsPicked) {
  const auto picked = [](const Device& device, const AttentionNeed& need) {
    const auto pick = pick_attention(device, need);
    return pick ? std::string(pick->row->name) : pick.error().text;
  };
  AttentionNeed need = heads_192_128();
  EXPECT_EQ(picked({.isa = Isa::avx512_bf16}, need), "avx512_bf16");
  EXPECT_EQ(picked({.isa = Isa::avx2}, need), "avx2");
  EXPECT_EQ(picked(cuda(90), need), "cuda_decode");
  EXPECT_EQ(picked(cuda(80), need), "cuda_mma_192");
  need.page_tokens = 64, need.pages = DType::f8e4m3;
  EXPECT_EQ(picked(cuda(90), need), "cuda_decode_f8");
  need.token_scales = true;
  EXPECT_EQ(picked(cuda(90), need), "cuda_mma_192");
  need = heads_192_128();
  need.step = StepForm::prefill;
  EXPECT_EQ(picked(cuda(90), need), "cuda_wgmma");
  EXPECT_EQ(picked(cuda(80), need), "cuda_mma_192");
  EXPECT_EQ(picked(cuda(100), need), "cuda_mma_192");  // sm_90a's instructions are Hopper's alone
  need.pages = DType::f8e4m3;
  EXPECT_EQ(picked(cuda(90), need), "cuda_wgmma_f8");
  need.token_scales = true;
  EXPECT_EQ(picked(cuda(90), need), "cuda_wgmma_f8");
  need.query = DType::f16;
  EXPECT_EQ(picked(cuda(90), need), "cuda_mma_192");
  need.query = DType::bf16;
  EXPECT_EQ(picked(cuda(86), need), "cuda_plain");  // too little shared memory
  need.k_dim = 128;
  EXPECT_EQ(picked(cuda(86), need), "cuda_mma");
  need.token_scales = false;
  need.pages = DType::bf16;
  need.k_dim = 200;
  EXPECT_EQ(picked(cuda(90), need), "cuda_plain");
  need.query = DType::f32;
  need.pages = DType::f32;
  EXPECT_EQ(picked({.isa = Isa::avx512_bf16}, need), "avx512");
}

TEST(Backends, EveryOtherRowSaysWhy) {
  for (const Device& device : {Device{.isa = Isa::avx2}, cuda(80), cuda(90)}) {
    for (const StepForm step : {StepForm::decode, StepForm::prefill}) {
      AttentionNeed need = heads_192_128();
      need.step = step;
      const auto pick = pick_attention(device, need);
      ASSERT_TRUE(pick);
      size_t n_rows = 0;
      for (const AttentionBackend& row : attention_backends())
        n_rows += row.form == need.form && row.least.kind == device.kind;
      EXPECT_EQ(pick->others.size() + 1, n_rows);
      for (const PassedOver& other : pick->others) EXPECT_FALSE(other.why.empty());
    }
  }
}

TEST(Backends, ANamedRowIsTakenOrRefused) {
  const Device device{.isa = Isa::avx512_bf16};
  AttentionNeed need = heads_192_128();
  ASSERT_TRUE(pick_attention(device, need, "avx2"));
  EXPECT_EQ(pick_attention(device, need, "avx2")->row->name, std::string("avx2"));
  need.pages = DType::f16;
  need.query = DType::f32;
  const auto refused = pick_attention(device, need, "avx512_bf16");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::unsupported);
  EXPECT_NE(refused.error().text.find("queries of float32: takes bfloat16"), std::string::npos)
      << refused.error().text;
  const auto unknown = pick_attention(device, need, "flash");
  ASSERT_FALSE(unknown);
  EXPECT_NE(unknown.error().text.find("known are avx512_bf16, avx512, avx2, baseline"),
            std::string::npos)
      << unknown.error().text;
}

TEST(Backends, WhatNoRowTakesIsRefusedWithEveryReason) {
  AttentionNeed need = heads_192_128();
  need.query = need.pages = DType::f32;
  const auto refused = pick_attention(cuda(90), need);
  ASSERT_FALSE(refused);
  for (const char* row : {"cuda_wgmma", "cuda_wgmma_f8", "cuda_decode", "cuda_mma", "cuda_plain"})
    EXPECT_NE(refused.error().text.find(row), std::string::npos) << refused.error().text;
  need = {.heads = 130, .kv_heads = 2, .k_dim = 64, .v_dim = 64};
  EXPECT_FALSE(pick_attention({.isa = Isa::avx512_bf16}, need));  // 65 query heads over one
  EXPECT_TRUE(pick_attention(cuda(90), need));
}

// A combination that an older card refused would have no body there.
TEST(Backends, EveryCombinationHasABodyOnAnyCard) {
  for (const DType query : {DType::bf16, DType::f16}) {
    for (const DType pages : kTypes) {
      for (const int32_t page : {16, 32, 64}) {
        AttentionNeed need = heads_192_128();
        need.query = query, need.pages = pages, need.page_tokens = page;
        const bool expected = is_f8(pages) || pages == query;
        for (const int32_t sm : {80, 86, 89, 90, 100, 120})
          EXPECT_EQ(bool(pick_attention(cuda(sm), need)), expected) << to_text(need) << " " << sm;
      }
    }
  }
}

TEST(Backends, DevicesAreParsed) {
  for (const char* text : {"cpu:avx2", "cpu:baseline", "cuda:sm_90", "cuda:sm_120"}) {
    const auto device = parse_device(text);
    ASSERT_TRUE(device) << text;
    EXPECT_EQ(name(*device), text);
  }
  for (const char* text : {"", "gpu", "cpu:", "cpu:sse", "cuda", "cuda:90", "cuda:sm_",
                           "cuda:sm_9x", "cuda:sm_99999999999"}) {
    EXPECT_FALSE(parse_device(text)) << text;
  }
}

TEST(Backends, BetterSetsRunLesserRows) {
  const AttentionBackend& row = row_named("avx2", AttentionForm::latent);
  const AttentionNeed need{.form = AttentionForm::latent, .heads = 128, .k_dim = 576, .v_dim = 512};
  EXPECT_EQ(refusal(row, {.isa = Isa::avx512}, need), "");
  EXPECT_EQ(refusal(row, {.isa = Isa::baseline}, need), "needs avx2, the machine has baseline");
}

}  // namespace
}  // namespace ashlar
