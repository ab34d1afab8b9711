// Drawn sessions: no family finds less than the reference's rules do, nothing is invalid or
// refused.

#include "sessions.h"

#include <gtest/gtest.h>

namespace ashlar::reuse {
namespace {

TEST(Sessions, EveryFamilyFindsAtLeastWhatTheReferenceDoes) {
  for (const std::string& family : session_families()) {
    const SessionTotals totals = play_sessions(family, 0, 150);
    EXPECT_GE(totals.hit, totals.reference) << family;
    EXPECT_GT(totals.reference, 10000) << family;
    EXPECT_EQ(totals.n_invalid, 0) << family;
    EXPECT_EQ(totals.n_refused, 0) << family;
  }
}

TEST(Sessions, ASeedIsASession) {
  const ReplaySession one = draw_session("full_swa", 3), same = draw_session("full_swa", 3);
  ASSERT_EQ(one.ops.size(), same.ops.size());
  for (size_t i = 0; i < one.ops.size(); ++i) {
    EXPECT_EQ(one.ops[i].tokens, same.ops[i].tokens);
    EXPECT_EQ(one.ops[i].hit, same.ops[i].hit);
  }
  EXPECT_NE(draw_session("full_swa", 4).ops[0].tokens, one.ops[0].tokens);
}

}  // namespace
}  // namespace ashlar::reuse
