// Put together, the ranks' shares are the whole; every query head finds its KV head on its rank.

#include "weights/shards.h"

#include <gtest/gtest.h>

#include <numeric>

#include "weights/testing.h"

namespace ashlar {
namespace {

bool mentions(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

// One span after another, with no gap, to `end`.
void expect_whole(const std::vector<Span>& spans, int64_t end) {
  int64_t at = 0;
  for (const Span& span : spans) {
    EXPECT_EQ(span.begin, at);
    EXPECT_LE(span.begin, span.end);
    at = span.end;
  }
  EXPECT_EQ(at, end);
}

TEST(Shards, SharesAreTheWholeAndHeadsFindTheirKeys) {
  for (const int32_t kv_heads : {1, 2, 4, 8}) {
    for (const int64_t ranks : {1, 2, 4, 8, 16}) {
      const AttentionSpec spec{.heads = 16, .kv_heads = kv_heads, .k_dim = 192, .v_dim = 128};
      std::vector<Span> q, o;
      std::vector<int64_t> holders(static_cast<size_t>(kv_heads));
      for (int64_t r = 0; r < ranks; ++r) {
        const auto shard = attention_shard(spec, {r, ranks});
        ASSERT_TRUE(shard) << shard.error().text;
        q.push_back(shard->q);
        o.push_back(shard->o);
        EXPECT_EQ(shard->k, (Span{shard->kv_heads.begin * 192, shard->kv_heads.end * 192}));
        EXPECT_EQ(shard->v, (Span{shard->kv_heads.begin * 128, shard->kv_heads.end * 128}));
        for (int64_t h = shard->kv_heads.begin; h < shard->kv_heads.end; ++h) {
          ++holders[static_cast<size_t>(h)];
        }
        for (int64_t h = shard->heads.begin; h < shard->heads.end; ++h) {
          const int64_t kv = h / (16 / kv_heads);
          EXPECT_TRUE(shard->kv_heads.begin <= kv && kv < shard->kv_heads.end)
              << "head " << h << " of rank " << r << " of " << ranks;
        }
      }
      expect_whole(q, 16 * 192);
      expect_whole(o, 16 * 128);
      for (const int64_t n : holders) EXPECT_EQ(n, std::max<int64_t>(1, ranks / kv_heads));
    }
  }
}

TEST(Shards, LatentsExpertsAndVocabularies) {
  const LatentSpec latent{
      .heads = 16, .kv_lora = 512, .nope_dim = 128, .rope_dim = 64, .v_dim = 128};
  std::vector<Span> q, kv_b, o, experts, vocab;
  for (int64_t r = 0; r < 8; ++r) {
    const auto shard = latent_shard(latent, {r, 8});
    ASSERT_TRUE(shard) << shard.error().text;
    q.push_back(shard->q);
    kv_b.push_back(shard->kv_b);
    o.push_back(shard->o);
    experts.push_back(*expert_shard(256, {r, 8}));
    vocab.push_back(vocab_shard(1003, {r, 8}));
  }
  expect_whole(q, 16 * 192);
  expect_whole(kv_b, 16 * 256);
  expect_whole(o, 16 * 128);
  expect_whole(experts, 256);
  expect_whole(vocab, 1003);
}

TEST(Shards, WhatDoesNotDivideIsRefused) {
  const AttentionSpec spec{.heads = 12, .kv_heads = 4, .k_dim = 8, .v_dim = 8};
  const auto heads = attention_shard(spec, {0, 8});
  EXPECT_TRUE(mentions(heads.error().text,
                       "tensor-parallel size 8: 12 query heads do not divide among 8 ranks"))
      << heads.error().text;
  const auto copies = attention_shard(spec, {0, 6});
  EXPECT_TRUE(mentions(copies.error().text, "4 KV heads cannot each be on as many of 6 ranks"));
  EXPECT_FALSE(attention_shard(spec, {0, 3}));
  EXPECT_TRUE(mentions(expert_shard(3, {0, 2}).error().text, "3 experts do not divide"));
  EXPECT_TRUE(can_shard(routed_spec(), 1));
  const Status two = can_shard(routed_spec(), 2);
  ASSERT_FALSE(two);
  EXPECT_TRUE(mentions(two.error().text, "3 experts")) << two.error().text;
  EXPECT_TRUE(can_shard(dense_spec(), 2));
}

// Codes 0, 1, 2... of four chunks of 144 rows with a grid of two blocks each.
struct Chunked {
  static constexpr int64_t kChunks = 4, kHeight = 144, kColumns = 200;
  std::vector<std::byte> codes;
  std::vector<float> scales;
  Matrix matrix;

  Chunked() : codes(kChunks * kHeight * kColumns), scales(kChunks * 2 * 2) {
    for (size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<std::byte>(i * 7 % 120);
    std::iota(scales.begin(), scales.end(), 1.0f);
    // As a weight of rows 80 to 144 of each chunk.
    ConstView values(codes.data() + 80 * kColumns, DType::f8e4m3, {kChunks, 64, kColumns});
    values.strides[0] = kHeight * kColumns;
    matrix = Matrix(
        values,
        ConstView(reinterpret_cast<const std::byte*>(scales.data()), DType::f32, {kChunks, 2, 2}),
        80);
  }
};

TEST(Shards, RowsOfChunksAreTheWholeInOrder) {
  const Chunked whole;
  const int64_t n_rows = Chunked::kChunks * 64;
  for (const int64_t ranks : {1, 2, 4, 8}) {
    int64_t row = 0;
    for (int64_t r = 0; r < ranks; ++r) {
      const Span span{r * n_rows / ranks, (r + 1) * n_rows / ranks};
      for (const Matrix& piece : row_shard(whole.matrix, span)) {
        for (int64_t n = 0; n < piece.dim(0); ++n, ++row) {
          const int64_t chunk = row / 64, at = 80 + row % 64;
          for (const int64_t k : {0, 127, 128, 199}) {
            const auto code = std::to_integer<uint8_t>(
                whole.codes[static_cast<size_t>((chunk * Chunked::kHeight + at) * 200 + k)]);
            const float scale =
                whole.scales[static_cast<size_t>((chunk * 2 + at / 128) * 2 + k / 128)];
            ASSERT_EQ(value_at(piece, n, k), to_float(F8E4M3{code}) * scale) << row << " " << k;
          }
        }
      }
    }
    EXPECT_EQ(row, n_rows);
  }
}

TEST(Shards, ColumnsKeepTheirScales) {
  const Chunked whole;
  const Matrix w = whole.matrix.chunk(1);
  const auto left = column_shard(w, {0, 128}), right = column_shard(w, {128, 200});
  ASSERT_TRUE(left && right);
  for (int64_t n = 0; n < w.dim(0); ++n) {
    for (int64_t k = 0; k < 200; ++k) {
      ASSERT_EQ(k < 128 ? value_at(*left, n, k) : value_at(*right, n, k - 128), value_at(w, n, k));
    }
  }
  const auto cut = column_shard(w, {0, 100});
  ASSERT_FALSE(cut);
  EXPECT_EQ(cut.error().text, "columns 0 to 100 of 200 cut a block of 128 that shares a scale");
  const std::vector<float> numbers(12);
  const Matrix plain =
      ConstView(reinterpret_cast<const std::byte*>(numbers.data()), DType::f32, {3, 4});
  EXPECT_EQ(column_shard(plain, {1, 3})->width(), 2);
}

}  // namespace
}  // namespace ashlar
