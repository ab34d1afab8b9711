#include <gtest/gtest.h>

#include "kernels/attention/attention_testing.h"

namespace ashlar {
namespace {

constexpr DType kDTypes[] = {DType::f32, DType::bf16, DType::f16, DType::f8e4m3, DType::f8e5m2};

// Writes a step into fresh (poisoned) pages and returns all of their bytes.
std::vector<std::byte> write(KvWriteFn fn, const AttnCase& c, const std::vector<float>& k,
                             const std::vector<float>& v, int32_t page_tokens, float multiplier,
                             WriteStats* stats = nullptr) {
  AttnCase empty = c;  // the same places, with no token seen: everything is poison
  empty.shape.window = 0;
  Pages pages(empty, page_tokens);
  std::vector<std::byte> memory(pages.memory().size(), std::byte{0xFF});
  PagedView view_of = pages.view();
  view_of.base = memory.data();
  const std::vector<AttnSeq> seqs = sequences(c, pages);
  Pool pool(2);
  fn({.k = view(k, {c.n_tokens(), c.shape.kv_heads, c.shape.k_dim}),
      .v = view(v, {c.n_tokens(), c.shape.kv_heads, c.shape.v_dim}),
      .kv = view_of,
      .seqs = seqs,
      .v_multiplier = multiplier,
      .stats = stats},
     pool);
  return memory;
}

TEST(KvWrite, EveryIsaWritesTheReferencesBytes) {
  Random random(1);
  for (const DType dtype : kDTypes) {
    for (const auto& [k_dim, v_dim] : {std::pair{192, 128}, {20, 12}, {7, 33}}) {
      for (const int32_t page_tokens : {1, 16, 50}) {
        const AttnShape shape{.heads = 2, .kv_heads = 2, .k_dim = k_dim, .v_dim = v_dim};
        const AttnCase c = random_case(shape, {{1, 40}, {37, 61}, {0, 3}, {5, 5}}, dtype, random);
        const std::vector<float> k = random.normal(c.n_tokens() * 2 * k_dim);
        const std::vector<float> v = random.normal(c.n_tokens() * 2 * v_dim, 100.0f);
        const auto expected = write(kv_write_ref, c, k, v, page_tokens, 0.707f);
        for (const Isa isa : available_isas()) {
          EXPECT_TRUE(write(kv_write_cpu(isa), c, k, v, page_tokens, 0.707f) == expected)
              << name(isa) << " " << name(dtype) << " " << k_dim << "/" << v_dim << " page "
              << page_tokens;
        }
      }
    }
  }
}

TEST(KvWrite, RoundsEveryKindOfNumberAsTheScalarConversionsDo) {
  const float infinity = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> k = {0.0f,     -0.0f,     1.0f,      infinity, -infinity, nan,      -nan,
                          65504.0f, 65519.99f, 65520.0f,  -1e6f,    1e-8f,     5.96e-8f, 2.98e-8f,
                          6.1e-5f,  6.09e-5f,  -3.05e-5f, 1e-40f,   3e38f,     3.4e38f};
  Random random(2);
  while (k.size() < 4000) {  // all exponents, and halves between two representable numbers
    const auto bits = static_cast<uint32_t>(random.integer(0, 0xFFFFFFFF));
    k.push_back(std::bit_cast<float>(bits & (k.size() % 2 ? 0xFFFFF000u : 0xFFFF8000u)));
  }
  for (const DType dtype : kDTypes) {
    const AttnShape shape{.heads = 1, .kv_heads = 1, .k_dim = 100, .v_dim = 100};
    const AttnCase c = random_case(shape, {{40, 40}}, dtype, random);
    const auto expected = write(kv_write_ref, c, k, k, 16, 1.0f);
    for (const Isa isa : available_isas()) {
      EXPECT_TRUE(write(kv_write_cpu(isa), c, k, k, 16, 1.0f) == expected)
          << name(isa) << " " << name(dtype);
    }
  }
}

TEST(KvWrite, WhatIsWrittenIsWhatAttentionReads) {
  Random random(3);
  const AttnShape shape{.heads = 4, .kv_heads = 2, .k_dim = 48, .v_dim = 32};
  for (const DType dtype : kDTypes) {
    const AttnCase c = random_case(shape, {{70, 70}, {3, 3}}, dtype, random);
    std::vector<float> k, v;
    for (size_t i = 0; i < 2; ++i) {
      k.insert(k.end(), c.k[i].begin(), c.k[i].end());
      v.insert(v.end(), c.v[i].begin(), c.v[i].end());
    }
    const Pages filled(c, 16);
    for (const Isa isa : available_isas()) {
      EXPECT_TRUE(write(kv_write_cpu(isa), c, k, v, 16, 1.0f) == filled.memory())
          << name(isa) << " " << name(dtype);
    }
  }
}

TEST(KvWrite, TokenScalesAndStats) {
  Random random(4);
  for (const DType dtype : {DType::f8e4m3, DType::f8e5m2}) {
    const AttnShape shape{.heads = 2, .kv_heads = 2, .k_dim = 20, .v_dim = 33};
    for (const bool own : {false, true}) {
      AttnCase c = random_case(shape, {{37, 61}, {1, 40}, {5, 5}}, dtype, random);
      c.token_scales = own;
      c.k_scale = dtype == DType::f8e4m3 ? 1.0f : 0.01f;
      std::vector<float> k = random.normal(c.n_tokens() * 40, 300.0f);
      std::vector<float> v = random.normal(c.n_tokens() * 66, 10.0f);
      k[3] = std::numeric_limits<float>::infinity();
      k[50] = std::numeric_limits<float>::quiet_NaN();
      std::fill_n(v.begin(), 33, 0.0f);
      WriteStats expected;
      const auto bytes = write(kv_write_ref, c, k, v, 16, 0.5f, &expected);
      EXPECT_EQ(expected.values, c.n_tokens() * 106);
      EXPECT_GT(expected.clipped, 0);
      for (const Isa isa : available_isas()) {
        WriteStats stats;
        EXPECT_TRUE(write(kv_write_cpu(isa), c, k, v, 16, 0.5f, &stats) == bytes) << name(isa);
        EXPECT_EQ(stats.values, expected.values);
        EXPECT_EQ(stats.clipped, expected.clipped) << name(isa);
        EXPECT_EQ(stats.largest_k, expected.largest_k);
        EXPECT_EQ(stats.largest_v, expected.largest_v);
      }
    }
  }
}

}  // namespace
}  // namespace ashlar
