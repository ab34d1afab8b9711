// The engine at its edges: refusals, cancellation, limits, and an empty arena at the end of it all.

#include "checkpoint.h"

#include <set>
#include <thread>

#include "kv/plan.h"

namespace ashlar {
namespace {

ModelFlags tiny() { return {.model = "tests/goldens/models/mimo-gqa"}; }

std::vector<Request> one(Request request) {
  std::vector<Request> list;
  list.push_back(std::move(request));
  return list;
}

// No sequence holds a page; what is left is cached prefixes.
void expect_all_free(const Engine& engine) {
  for (size_t g = 0; g < engine.cache().groups().size(); ++g) {
    EXPECT_EQ(engine.cache().held_pages(g), 0);
  }
}

TEST(Engine, RefusesOnceWithTheNumbers) {
  ModelFlags flags = tiny();
  flags.memory = "1MiB";
  Session session = open_checkpoint(flags);
  Engine& engine = *session.engine;
  const auto error_of = [&](Request request) {
    return run_all(engine, one(std::move(request))).front().error;
  };
  EXPECT_EQ(error_of({}), "the prompt has no tokens: at least one is needed");
  EXPECT_NE(
      error_of({.tokens = {1, 99999}}).find("prompt token 1 is 99999: the vocabulary has ids 0 to"),
      std::string::npos);
  EXPECT_NE(error_of({.tokens = {1, -5}}).find("prompt token 1 is -5"), std::string::npos);
  const std::string too_long = error_of({.tokens = {1}, .max_tokens = 1 << 20});
  EXPECT_NE(too_long.find("the cache of"), std::string::npos) << too_long;
  EXPECT_NE(too_long.find("--memory"), std::string::npos);
  EXPECT_NE(error_of({.tokens = {1}, .sampling = {.temperature = -1}}).find("temperature"),
            std::string::npos);
  expect_all_free(engine);
}

TEST(Engine, StopTokensAndLengthEndARequest) {
  Session session = open_checkpoint(tiny());
  const Outcome free =
      run_all(*session.engine, one({.tokens = {3, 4, 5}, .max_tokens = 8})).front();
  ASSERT_EQ(free.tokens.size(), 8u);
  EXPECT_EQ(free.finish, Finish::length);
  EXPECT_EQ(free.usage.completion_tokens, 8);
  const int32_t stop = free.tokens[3];
  const Outcome stopped =
      run_all(*session.engine, one({.tokens = {3, 4, 5}, .max_tokens = 8, .stop_tokens = {stop}}))
          .front();
  EXPECT_EQ(stopped.finish, Finish::stop);
  EXPECT_EQ(stopped.tokens.back(), stop);
  EXPECT_LE(stopped.tokens.size(), 4u);
  expect_all_free(*session.engine);
}

// Cancels at every number of steps a request can have behind it; its pages return, others go on.
TEST(Engine, CancelAtEveryStep) {
  ModelFlags flags = tiny();
  flags.max_step_tokens = 8;
  Session session = open_checkpoint(flags);
  Engine& engine = *session.engine;
  const Outcome reference = run_all(engine, one({.tokens = {7, 8, 9}, .max_tokens = 6})).front();
  for (int n_steps = 0; n_steps < 14; ++n_steps) {
    Queue<Event> victim_events, other_events;
    std::vector<int32_t> prompt(40, 11);
    engine.submit({.id = RequestId{1}, .tokens = prompt, .max_tokens = 8, .sink = &victim_events});
    engine.submit(
        {.id = RequestId{2}, .tokens = {7, 8, 9}, .max_tokens = 6, .sink = &other_events});
    for (int i = 0; i < n_steps; ++i) engine.step();
    engine.cancel(RequestId{1});
    while (engine.step()) engine.audit();
    int n_finish = 0;
    for (const Event& event : victim_events.take_all()) n_finish += event.finish.has_value();
    EXPECT_EQ(n_finish, 1) << n_steps;
    std::vector<int32_t> tokens;
    for (const Event& event : other_events.take_all()) {
      if (event.token) tokens.push_back(*event.token);
    }
    EXPECT_EQ(tokens, reference.tokens) << n_steps;
    expect_all_free(engine);
  }
}

TEST(Engine, ManyThreadsSubmitToARunningLoop) {
  Session session = open_checkpoint(tiny());
  const Outcome reference =
      run_all(*session.engine, one({.tokens = {5, 6}, .max_tokens = 10})).front();
  session.engine->start();
  std::vector<std::thread> clients;
  for (int c = 0; c < 4; ++c) {
    clients.emplace_back([&] {
      for (int round = 0; round < 3; ++round) {
        Queue<Event> events;
        session.engine->submit({.tokens = {5, 6}, .max_tokens = 10, .sink = &events});
        std::vector<int32_t> tokens;
        while (true) {
          const auto event = events.pop();
          if (event->token) tokens.push_back(*event->token);
          if (event->finish) break;
        }
        EXPECT_EQ(tokens, reference.tokens);
      }
    });
  }
  for (std::thread& client : clients) client.join();
}

TEST(Engine, EndsWithRequestsInFlight) {
  Queue<Event> events;
  {
    Session session = open_checkpoint(tiny());
    session.engine->start();
    session.engine->submit({.tokens = {5, 6}, .max_tokens = 2000, .sink = &events});
    events.pop();
  }
  std::optional<Finish> finish;
  for (const Event& event : events.take_all()) finish = event.finish ? event.finish : finish;
  EXPECT_TRUE(finish == Finish::cancelled || finish == Finish::length);
}

// Flags with memory for four sequences of n_tokens: as the closed form says, not as the engine
// does.
ModelFlags with_room_for_four(ModelFlags flags, int32_t n_tokens, const StepShape& shape) {
  for (int64_t kib = 64; kib < 16384; kib += 32) {
    flags.memory = fmt::format("{}KiB", kib);
    auto session = open_session(flags, best_isa());
    if (!session) continue;
    const Cache& cache = session->engine->cache();
    if (sequences_that_fit(cache.groups(), cache.arena().layout(), n_tokens, shape) == 4)
      return flags;
  }
  ADD_FAILURE() << "no memory holds four";
  return flags;
}

// Planned equals allocated: requests are added, one a step, until the engine admits no more. Then
// as many run as the plan says, and what they hold is its closed form, group by group.
TEST(Engine, FilledToRefusalHoldsWhatThePlanSays) {
  struct Case {
    const char* layout;
    int32_t pack;
    int32_t block_size;
  };
  for (const Case& test : {Case{"arena", 1, 8}, Case{"arena", 1, 16}, Case{"arena", 1, 64},
                           Case{"uniform", 1, 8}, Case{"uniform", 1, 16}, Case{"uniform", 3, 32}}) {
    SCOPED_TRACE(testing::Message() << test.layout << " " << test.pack << " " << test.block_size);
    ModelFlags flags{.model = source_path("zoo/mimo-tiny"),
                     .layout = test.layout,
                     .block_size = test.block_size,
                     .pack = test.pack,
                     .threads = 1};
    // The first tokens of a page: windows straddle the most, and a few more need no other page.
    const int32_t n_tokens = 128 + 1;
    const StepShape shape{.step_tokens = flags.max_step_tokens};
    flags = with_room_for_four(flags, n_tokens, shape);
    Queue<Event> events;
    Session session = open_checkpoint(flags);
    Engine& engine = *session.engine;
    for (int32_t id = 0; id < 5; ++id) {
      std::vector<int32_t> prompt(static_cast<size_t>(n_tokens), 20 + id);
      engine.submit({.id = RequestId{static_cast<uint64_t>(id)},
                     .tokens = std::move(prompt),
                     .max_tokens = 20,
                     .sink = &events});
      engine.step();
      engine.audit();
    }
    std::set<RequestId> running;
    for (const Event& event : events.take_all()) {
      EXPECT_FALSE(event.finish.has_value());
      running.insert(event.id);
    }
    const Cache& cache = engine.cache();
    const ArenaLayout& layout = cache.arena().layout();
    const PlanPoint point = plan_point(cache.groups(), layout, n_tokens, shape);
    EXPECT_EQ(std::ssize(running), point.n_sequences);
    for (size_t g = 0; g < cache.groups().size(); ++g) {
      EXPECT_EQ(cache.held_pages(g), point.n_sequences * point.pages[g]) << "group " << g;
      EXPECT_EQ(cache.held_pages(g) * layout.groups[g].page_bytes,
                point.n_sequences * point.group_bytes[g]);
    }
  }
}

TEST(Order, DecodesComeFirstAndNobodyOvertakes) {
  const std::vector<Demand> demands = {{.n_pending = 1, .running = true},
                                       {.n_pending = 100, .running = true},
                                       {.n_pending = 1, .running = true},
                                       {.n_pending = 50},
                                       {.n_pending = 2}};
  const Budget budget{.step_tokens = 64, .chunk_tokens = 48, .max_running = 8, .logit_rows = 128};
  EXPECT_EQ(share_step(demands, budget), (std::vector<int32_t>{1, 48, 1, 14, 0}));
}

TEST(Order, LogitRowsAndSequencesAreLimits) {
  const std::vector<Demand> demands = {{.n_pending = 30, .running = true, .every_logit = true},
                                       {.n_pending = 3}};
  EXPECT_EQ(share_step(demands,
                       {.step_tokens = 64, .chunk_tokens = 64, .max_running = 8, .logit_rows = 16}),
            (std::vector<int32_t>{16, 0}));
  EXPECT_EQ(share_step(demands,
                       {.step_tokens = 64, .chunk_tokens = 64, .max_running = 1, .logit_rows = 64}),
            (std::vector<int32_t>{30, 0}));
}

}  // namespace
}  // namespace ashlar
