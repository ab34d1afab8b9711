// The bars of reuse on the chat trace, and what makes them mean something.

#include <gtest/gtest.h>

#include "table.h"

namespace ashlar::reuse {
namespace {

TEST(Reuse, BarsOfEveryGeometry) {
  const std::vector<ReuseRow> rows = *reuse_rows();
  ASSERT_EQ(rows.size(), 2 * geometries().size());
  for (size_t i = 0; i < rows.size(); ++i) {
    const ReuseRow& row = rows[i];
    SCOPED_TRACE(row.label + (row.quarter ? ", a quarter" : ", everything"));
    EXPECT_LE(row.ours.ratio(), row.ideal + 0.01);
    if (row.quarter) {
      EXPECT_GE(row.ours.ratio(), 0.90 * rows[1].ours.ratio());
    } else {
      EXPECT_GE(row.ours.ratio(), 0.95 * row.ideal);
    }
    EXPECT_GE(row.ours.ratio(), row.reference.outcome.ratio());
    if (row.packed) {
      EXPECT_GE(row.ours.ratio(), row.packed->outcome.ratio());
    }
  }
  EXPECT_EQ(rows.back().reference.grain_tokens, 2096);
  EXPECT_EQ(rows.back().packed->grain_tokens, 528);
}

}  // namespace
}  // namespace ashlar::reuse
