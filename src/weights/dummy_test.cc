#include <gtest/gtest.h>

#include <cmath>

#include "weights/convert.h"
#include "weights/load.h"
#include "weights/testing.h"

namespace ashlar {
namespace {

std::vector<float> floats(const ConstView& view) {
  std::vector<float> values;
  for (int64_t i = 0; i < view.shape.elements(); ++i) {
    values.push_back(element(view.data, view.dtype, i));
  }
  return values;
}

ModelSpec wide_spec() {
  return spec_of(R"({"model_type": "llama", "vocab_size": 1001, "hidden_size": 612,
    "num_hidden_layers": 1, "num_attention_heads": 6, "intermediate_size": 333})");
}

TEST(Dummy, ThreadsDoNotMatterAndSeedsDo) {
  const auto rows = weight_rows(wide_spec());
  Pool one(1), three(3);
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    const auto a = dummy_weights(rows, dtype, 7, one);
    const auto b = dummy_weights(rows, dtype, 7, three);
    const auto c = dummy_weights(rows, dtype, 8, three);
    ASSERT_TRUE(a && b && c);
    EXPECT_EQ(a->views.head.dtype, dtype);
    const auto bytes = [](const LoadedWeights& w) {
      const auto span = w.converted.bytes();
      return std::string_view(reinterpret_cast<const char*>(span.data()), span.size());
    };
    EXPECT_EQ(bytes(*a), bytes(*b));
    EXPECT_NE(bytes(*a), bytes(*c));
    EXPECT_EQ(a->owned_bytes, static_cast<int64_t>(a->converted.bytes().size()));
  }
}

TEST(Dummy, MomentsAreTheRows) {
  const auto rows = weight_rows(wide_spec());
  Pool pool(2);
  const auto loaded = dummy_weights(rows, DType::f32, 1, pool);
  ASSERT_TRUE(loaded);
  WeightTree<char> ignored;
  std::vector<const WeightRow*> order;
  zip_weights(rows, &ignored, [&](const WeightRow& row, char&) { order.push_back(&row); });
  size_t next = 0;
  zip_weights(loaded->views, &ignored, [&](const ConstView& view, char&) {
    const WeightRow& row = *order[next++];
    ASSERT_EQ(static_cast<bool>(view), !row.sources.empty());
    if (!view) return;
    EXPECT_EQ(view.shape, row.shape);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(view.data) % 64, 0u);
    double sum = 0, squares = 0;
    const std::vector<float> values = floats(view);
    for (const float value : values) sum += value, squares += double{value} * value;
    const double mean = sum / static_cast<double>(values.size());
    const double spread = std::sqrt(squares / static_cast<double>(values.size()) - mean * mean);
    EXPECT_NEAR(mean, row.dummy_mean, 0.01) << row.sources[0].tensor;
    EXPECT_NEAR(spread, row.dummy_spread, 0.02 * row.dummy_spread) << row.sources[0].tensor;
  });
}

// Products of made-up matrices must not be degenerate: no two rows alike, no two tensors alike.
TEST(Dummy, RowsAndTensorsDiffer) {
  const auto rows = weight_rows(wide_spec());
  Pool pool(2);
  const auto loaded = dummy_weights(rows, DType::f32, 1, pool);
  ASSERT_TRUE(loaded);
  const AttentionTree<Matrix>& layer = loaded->views.layers[0].attention;
  const auto correlation = [](const float* a, const float* b, int64_t n) {
    double ab = 0, aa = 0, bb = 0;
    for (int64_t i = 0; i < n; ++i) {
      ab += double{a[i]} * b[i], aa += double{a[i]} * a[i], bb += double{b[i]} * b[i];
    }
    return std::abs(ab) / std::sqrt(aa * bb);
  };
  for (const int64_t other : {1, 2, 3, 4, 100, 611}) {
    EXPECT_LT(correlation(layer.q.row<float>(0), layer.q.row<float>(other), 612), 0.2) << other;
  }
  EXPECT_LT(correlation(layer.q.row<float>(0), layer.k.row<float>(0), 612 * 612), 0.01);
  EXPECT_LT(correlation(layer.q.row<float>(0), layer.q.row<float>(0) + 1, 612 * 611), 0.01);
}

TEST(Dummy, AbsurdSizesAreRefused) {
  WeightTree<WeightRow> rows;
  rows.embedding = {.sources = {{"e", {1 << 30, 1 << 20}}}, .shape = {1 << 30, 1 << 20}};
  Pool pool(1);
  const auto huge = dummy_weights(rows, DType::f32, 1, pool);
  ASSERT_FALSE(huge);
  EXPECT_EQ(huge.error().code, Code::exhausted);
  rows.embedding.shape = {1 << 30, 1 << 30, 1 << 30};
  EXPECT_EQ(dummy_weights(rows, DType::f32, 1, pool).error().code, Code::invalid);
  EXPECT_EQ(dummy_weights(rows, DType::u8, 1, pool).error().code, Code::unsupported);
}

}  // namespace
}  // namespace ashlar
