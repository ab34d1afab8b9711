// The bars of reuse on the chat trace, and what makes them mean something.

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "table.h"

namespace ashlar::reuse {
namespace {

TEST(Reuse, TheTraceIsWhatTheTableSaysOfIt) {
  const std::vector<Request> trace = *read_trace(ASHLAR_SOURCE_DIR "/tests/traces/chat.jsonl");
  std::map<int32_t, const Request*> latest;
  std::map<int32_t, int> turns;
  std::set<int32_t> first_tokens;
  for (const Request& request : trace) {
    ++turns[request.conversation];
    first_tokens.insert(request.tokens[0]);
    EXPECT_EQ(request.marks.back(), request.n_prompt);
    const Request*& before = latest[request.conversation];
    if (before != nullptr) {  // it begins with all that was said
      ASSERT_GT(request.n_prompt, before->n_tokens());
      EXPECT_TRUE(std::equal(before->tokens.begin(), before->tokens.end(), request.tokens.begin()));
    }
    before = &request;
  }
  EXPECT_EQ(turns.size(), 200u);
  for (const auto& [conversation, n] : turns) EXPECT_EQ(n, 6) << conversation;
  EXPECT_EQ(first_tokens.size(), 3u);
  // No two conversations say the same.
  std::set<int32_t> last_tokens;
  for (const auto& [conversation, request] : latest) last_tokens.insert(request->tokens.back());
  EXPECT_EQ(last_tokens.size(), 200u);
}

TEST(Reuse, KnownTokensAreWholePagesThatSomebodyComputed) {
  const auto request = [](std::vector<int32_t> tokens, int32_t n_prompt) {
    Request r;
    r.tokens = std::move(tokens);
    r.n_prompt = n_prompt;
    return r;
  };
  const std::vector<Request> trace = {
      request({1, 2, 3, 4, 5, 6}, 3),        // computes 1 to 5
      request({1, 2, 3, 4, 5, 6, 7}, 6),     // of 1..6 two pages of two are known, not the third
      request({1, 2, 3, 4, 5, 6, 7, 8}, 6),  // all pages known, but the last token is wanted
      request({1, 2, 9, 4, 5, 6, 7}, 6)};    // parts in the second page
  EXPECT_EQ(known_tokens(trace, 2), (std::vector<int32_t>{0, 4, 4, 2}));
}

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
