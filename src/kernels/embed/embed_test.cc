#include "kernels/embed/embed.h"

#include <gtest/gtest.h>

#include "kernels/testing.h"

namespace ashlar {
namespace {

// Rows of a wider table, gathered out of order and more than once, into rows of a wider buffer.
template <class T>
void expect_rows(const std::vector<T>& table, float multiplier) {
  Pool pool(2);
  const int64_t n_tokens = 6, width = 37, stride = 40;
  const std::vector<int32_t> ids = {9, 0, 3, 3, 8, 1};
  std::vector<float> y = poisoned(static_cast<size_t>(n_tokens * stride));
  embed({.ids = ids,
         .table = view(table, {10, stride}).columns(0, width),
         .multiplier = multiplier,
         .y = view(y, {n_tokens, stride}).columns(0, width)},
        pool);
  for (size_t t = 0; t < ids.size(); ++t) {
    for (size_t i = 0; i < static_cast<size_t>(stride); ++i) {
      const float actual = y[t * static_cast<size_t>(stride) + i];
      const size_t from = static_cast<size_t>(ids[t]) * static_cast<size_t>(stride) + i;
      if (i < static_cast<size_t>(width)) {
        EXPECT_EQ(actual, to_float(table[from]) * multiplier);
      } else {
        EXPECT_TRUE(std::isnan(actual));
      }
    }
  }
}

TEST(Embed, WidensTheRowsOfEachType) {
  Random random(1);
  const auto table = random.normal(400);
  for (const float multiplier : {1.0f, 45.25f}) {
    expect_rows(table, multiplier);
    expect_rows(to_bf16(table), multiplier);
    expect_rows(to_f16(table), multiplier);
  }
}

TEST(Embed, NoTokensIsNoWork) {
  Pool pool(2);
  std::vector<float> table(4), y(4);
  embed({.ids = {}, .table = view(std::as_const(table), {2, 2}), .y = view(y, {0, 2})}, pool);
}

TEST(Embed, AnIdOutsideTheTableIsOurMistake) {
  Pool pool(1);
  std::vector<float> table(4), y(2);
  for (const int32_t id : {-1, 2}) {
    const std::vector<int32_t> ids = {id};
    EXPECT_DEATH(
        embed({.ids = ids, .table = view(std::as_const(table), {2, 2}), .y = view(y, {1, 2})},
              pool),
        "of a table of 2");
  }
}

}  // namespace
}  // namespace ashlar
