// Replay: what it reports, and that its tags catch a page that is not what it should be.

#include "kv/replay.h"

#include <gtest/gtest.h>

#include <cstring>
#include <numeric>

#include "base/checked.h"

namespace ashlar {
namespace {

constexpr ReplayGroup kFull = {.kind = LayerKind::full, .block_tokens = 4};
constexpr ReplayGroup kWindow = {.kind = LayerKind::window, .block_tokens = 4, .window = 9};
constexpr ReplayGroup kChunk = {.kind = LayerKind::chunk, .block_tokens = 4, .chunk = 16};
constexpr ReplayGroup kState = {.kind = LayerKind::state, .block_tokens = 4};

ReplaySession session_of(std::vector<ReplayGroup> groups) {
  return {.name = "test",
          .groups = std::move(groups),
          .n_blocks = 60,
          .match_tokens = 4,
          .max_tokens = 256};
}

std::vector<int32_t> text(int32_t n) {
  std::vector<int32_t> tokens(static_cast<size_t>(n));
  std::iota(tokens.begin(), tokens.end(), 1000);
  return tokens;
}

ReplayOp begin(const char* request, std::vector<int32_t> tokens, const char* salt = "") {
  return {.verb = ReplayVerb::begin, .request = request, .tokens = std::move(tokens), .salt = salt};
}
ReplayOp look_up(const char* request, int32_t hit = 0) {
  return {.verb = ReplayVerb::lookup, .request = request, .hit = hit};
}
ReplayOp compute(const char* request, int32_t n_new) {
  return {.verb = ReplayVerb::compute, .request = request, .use_hit = true, .n_new = n_new};
}
ReplayOp release(const char* request) { return {.verb = ReplayVerb::release, .request = request}; }

void play(Replay* replay, const std::vector<ReplayOp>& ops) {
  for (const ReplayOp& op : ops) {
    const Status done = replay->apply(op);
    ASSERT_TRUE(done) << done.error().text;
  }
}

Replay start(std::vector<ReplayGroup> groups) {
  auto replay = Replay::create(session_of(std::move(groups)));
  EXPECT_TRUE(replay) << replay.error().text;
  return *std::move(replay);
}

void overwrite(const Cache& cache, size_t group, uint32_t page) {
  std::memset(cache.page(page), 0x5A,
              static_cast<size_t>(cache.arena().layout().groups[group].page_bytes));
}

TEST(Replay, FindsWhatWasComputed) {
  for (const ReplayGroup& second : {kFull, kWindow, kChunk, kState}) {
    Replay replay = start({kFull, second});
    play(&replay, {begin("a", text(30)), look_up("a"), compute("a", 30), release("a"),
                   begin("b", text(30)), look_up("b", 28), compute("b", 2), release("b"),
                   begin("c", text(30), "salt"), look_up("c")});
    const ReplayResult& result = replay.result();
    ASSERT_EQ(result.lookups.size(), 3u);
    EXPECT_EQ(result.lookups[0].hit, 0);
    EXPECT_EQ(result.lookups[1].hit, 28);
    EXPECT_EQ(result.lookups[1].op, 5);
    EXPECT_EQ(result.lookups[2].hit, 0);
    EXPECT_TRUE(result.invalid.empty()) << result.invalid[0].text;
    EXPECT_TRUE(result.refused.empty());
  }
}

// A page of the last window, which every kind still reads at 28, damaged between two requests.
TEST(Replay, ADamagedPageIsInvalid) {
  for (const size_t damaged : {size_t{0}, size_t{1}}) {
    for (const ReplayGroup& second : {kWindow, kChunk}) {
      Replay replay = start({kFull, second});
      play(&replay, {begin("a", text(30)), look_up("a"), compute("a", 30)});
      overwrite(replay.cache(), damaged, replay.tables("a")->pages[damaged][6]);
      play(&replay, {begin("b", text(30)), look_up("b")});
      EXPECT_EQ(replay.result().lookups[1].hit, 28);
      ASSERT_EQ(replay.result().invalid.size(), 1u);
      EXPECT_EQ(replay.result().invalid[0].op, 4);
      EXPECT_NE(replay.result().invalid[0].text.find("does not hold token 24"), std::string::npos);
    }
  }
}

TEST(Replay, ADamagedStateIsInvalidBeforeAndAfterItsCopy) {
  Replay replay = start({kFull, kState, kState});
  play(&replay, {begin("a", text(30)), look_up("a"), compute("a", 30), release("a"),
                 begin("b", text(30)), look_up("b")});
  EXPECT_TRUE(replay.result().invalid.empty());
  const NodeId resume = replay.tables("b")->resume;
  ASSERT_NE(resume, kNoNode);
  overwrite(replay.cache(), 2, replay.cache().snapshot_pages(resume)[1]);
  play(&replay, {begin("c", text(30)), look_up("c"), compute("b", 30)});
  const auto& invalid = replay.result().invalid;
  ASSERT_EQ(invalid.size(), 2u);
  EXPECT_NE(invalid[0].text.find("group 2: snapshot page"), std::string::npos) << invalid[0].text;
  EXPECT_NE(invalid[1].text.find("group 2: page"), std::string::npos) << invalid[1].text;
}

// Half a page is as bad as none of it.
TEST(Replay, AnotherTextsTailIsInvalid) {
  Replay replay = start({kFull});
  play(&replay, {begin("a", text(30)), look_up("a"), compute("a", 30)});
  const auto& pages = replay.tables("a")->pages[0];
  const Cache& cache = replay.cache();
  const auto page_bytes = static_cast<size_t>(cache.arena().layout().groups[0].page_bytes);
  std::memcpy(cache.page(pages[3]) + page_bytes / 2, cache.page(pages[2]) + page_bytes / 2,
              page_bytes / 2);
  play(&replay, {begin("b", text(30)), look_up("b")});
  ASSERT_EQ(replay.result().invalid.size(), 1u);
  EXPECT_NE(replay.result().invalid[0].text.find("token 14"), std::string::npos);
}

// Where the session's blocks differ in length, our pages are shorter and cost the same.
TEST(Replay, ThePoolHasTheSessionsBytes) {
  ReplaySession session = session_of({{.kind = LayerKind::full, .block_tokens = 24},
                                      {.kind = LayerKind::window, .block_tokens = 16, .window = 9},
                                      {.kind = LayerKind::latent, .block_tokens = 8},
                                      {.kind = LayerKind::state, .block_tokens = 16}});
  const auto groups = replay_groups(session);
  ASSERT_TRUE(groups) << groups.error().text;
  const int64_t block = replay_block_bytes(session);
  for (size_t g = 0; g < 3; ++g) {
    EXPECT_EQ((*groups)[g].page_tokens, 4);
    EXPECT_EQ((*groups)[g].token_bytes() * session.groups[g].block_tokens, block);
    EXPECT_EQ((*groups)[g].page_bytes() * session.groups[g].block_tokens / 4, block);
  }
  EXPECT_EQ((*groups)[3].page_bytes(), block);
  const auto replay = Replay::create(session);
  ASSERT_TRUE(replay);
  EXPECT_EQ(replay->cache().arena().layout().n_slabs, session.n_blocks);
  EXPECT_EQ(replay->cache().arena().layout().slab_bytes, block);
}

TEST(Replay, ARefusedRequestStartsAgain) {
  ReplaySession session = session_of({kFull});
  session.n_blocks = 8;
  auto replay = Replay::create(session);
  play(&*replay, {begin("a", text(20)), look_up("a"), compute("a", 20), begin("b", {7, 8, 9}),
                  look_up("b"), compute("b", 3), begin("c", text(16), "salt"), look_up("c"),
                  compute("c", 16), release("a"), compute("c", 0)});
  EXPECT_EQ(replay->result().refused.size(), 1u);
  EXPECT_EQ(replay->tables("c")->n_tokens, 16);
  EXPECT_TRUE(replay->result().invalid.empty());
}

TEST(Replay, ALossHasACause) {
  Replay replay = start({kFull, kState});
  play(&replay,
       {begin("a", text(30)), look_up("a"), compute("a", 30), release("a"), begin("b", text(31)),
        look_up("b", 30), begin("c", {1, 2, 3, 4, 5}), look_up("c", 4)});
  EXPECT_EQ(replay.result().lookups[1].cause, "page rounding: 30 is no multiple of 4");
  EXPECT_EQ(replay.result().lookups[2].cause, "never_seen from token 0 on");
}

TEST(Replay, RefusesWhatDoesNotFollow) {
  Replay replay = start({kFull});
  EXPECT_FALSE(replay.apply(look_up("a")));
  ASSERT_TRUE(replay.apply(begin("a", text(5))));
  EXPECT_FALSE(replay.apply(begin("a", text(5))));
  EXPECT_FALSE(replay.apply(compute("a", 300)));
  EXPECT_FALSE(Replay::create(session_of({})));
  EXPECT_FALSE(Replay::create(session_of({{.kind = LayerKind::full, .block_tokens = 0}})));
  EXPECT_FALSE(Replay::create(
      session_of({{.kind = LayerKind::full, .block_tokens = 65535}, {.block_tokens = 65521}})));
  ReplaySession none = session_of({kFull});
  none.n_blocks = 0;
  EXPECT_FALSE(Replay::create(none));
}

}  // namespace
}  // namespace ashlar
