// ashlar bench model --acceptance: decode with a draft and without, at a chosen share of right
// proposals.

#include <algorithm>
#include <cstdio>

#include "cli/account.h"
#include "cli/bench_model.h"
#include "cli/session.h"
#include "cli/speculation.h"

namespace ashlar {
namespace {

constexpr int32_t kRounds = 5;
constexpr int32_t kWarmTokens = 3;  // of the round before them

using Answers = std::map<RequestId, std::vector<int32_t>>;

// Steps after the first, which computes the prompts.
struct Decode {
  Answers answers;
  int64_t n_tokens = 0;
  int64_t n_steps = 0;
  int64_t n_rounds = 0;    // a sequence's steps with proposals
  int64_t n_accepted = 0;  // proposed tokens, in them
  double seconds = 0;
  double draft_seconds = 0;
  double model_seconds = 0;

  double seconds_per_token() const { return seconds / static_cast<double>(n_tokens); }
  double ms_per_step(double part) const { return 1e3 * part / static_cast<double>(n_steps); }
  double accepted_length() const {
    const auto n = static_cast<double>(std::max<int64_t>(1, n_rounds));
    return 1 + static_cast<double>(n_accepted) / n;
  }
};

int64_t accepted(const EngineStats& stats) {
  int64_t n = 0;
  for (const int64_t at_place : stats.n_accepted) n += at_place;
  return n;
}

// The round's requests to their end. `round` decides their prompts.
Result<Decode> decode(Engine* engine, const BenchModelFlags& flags, int32_t round) {
  Queue<Event> events;
  for (int32_t i = 0; i < flags.batch; ++i) {
    const auto number = static_cast<uint64_t>(round * flags.batch + i);
    engine->submit({.id = RequestId{number},
                    .tokens = some_tokens(flags.prompt, engine->model().spec().vocab, number + 1),
                    .max_tokens = round == 0 ? kWarmTokens : flags.generate,
                    .sink = &events});
  }
  engine->step();
  const EngineStats before = engine->stats();
  const Stopwatch watch;
  while (engine->step()) continue;
  const EngineStats& after = engine->stats();
  Decode decode{.n_steps = after.n_steps - before.n_steps,
                .n_rounds = after.n_rounds - before.n_rounds,
                .n_accepted = accepted(after) - accepted(before),
                .seconds = watch.seconds(),
                .draft_seconds = after.draft_seconds - before.draft_seconds,
                .model_seconds = after.model_seconds - before.model_seconds};
  for (const Event& event : events.take_all()) {
    if (event.error) return *event.error;
    if (event.token) decode.answers[event.id].push_back(*event.token);
    if (event.finish) decode.n_tokens += event.usage.completion_tokens - 1;
  }
  return decode;
}

const Decode& median_of(std::vector<Decode>* rounds) {
  std::sort(rounds->begin(), rounds->end(), [](const Decode& a, const Decode& b) {
    return a.seconds_per_token() < b.seconds_per_token();
  });
  return (*rounds)[rounds->size() / 2];
}

Json describe(const char* phase, const Decode& decode, const BenchModelFlags& flags) {
  const double rest = decode.seconds - decode.draft_seconds - decode.model_seconds;
  return Json::Object{{"phase", phase},
                      {"batch", flags.batch},
                      {"steps", decode.n_steps},
                      {"tokens", decode.n_tokens},
                      {"tokens_per_s", 1 / decode.seconds_per_token()},
                      {"ms_per_step", decode.ms_per_step(decode.seconds)},
                      {"draft_ms", decode.ms_per_step(decode.draft_seconds)},
                      {"model_ms", decode.ms_per_step(decode.model_seconds)},
                      {"rest_ms", decode.ms_per_step(rest)}};
}

void print(const Decode& plain, const Decode& drafted, const BenchModelFlags& flags, int32_t n) {
  const double speed_up = plain.seconds_per_token() / drafted.seconds_per_token();
  if (flags.model.json) {
    Json line = describe("speculative", drafted, flags);
    line.as_object().emplace_back("proposed", n);
    line.as_object().emplace_back("rounds", drafted.n_rounds);
    line.as_object().emplace_back("accepted", drafted.n_accepted);
    line.as_object().emplace_back("mean_accepted_length", drafted.accepted_length());
    line.as_object().emplace_back("speed_up", speed_up);
    std::printf("%s\n%s\n", describe("decode", plain, flags).dump().c_str(), line.dump().c_str());
    return;
  }
  const auto parts = [](const Decode& d) {
    return fmt::format(
        "{:.2f} ms a step (draft {:.2f}, model {:.2f}, rest {:.2f}), {:.1f} tokens/s",
        d.ms_per_step(d.seconds), d.ms_per_step(d.draft_seconds), d.ms_per_step(d.model_seconds),
        d.ms_per_step(d.seconds - d.draft_seconds - d.model_seconds), 1 / d.seconds_per_token());
  };
  std::printf("%s", fmt::format("decode       {} x 1 rows: {}\n"
                                "speculative  {} x {} rows: {}; {:.2f} tokens a step, {:.2f} times "
                                "as fast\n",
                                flags.batch, parts(plain), flags.batch, 1 + n, parts(drafted),
                                drafted.accepted_length(), speed_up)
                        .c_str());
}

}  // namespace

Status bench_acceptance(const BenchModelFlags& flags, Isa isa) {
  BenchModelFlags without = flags;
  without.model.speculative_config.clear();
  if (flags.model.speculative_config.empty()) {
    return invalid("--acceptance {}: nothing proposes; add --speculative-config with a draft",
                   *flags.acceptance);
  }
  TRY(Session drafted, open_session(flags.model, isa));
  if (drafted.engine->proposer().draft() == nullptr) {
    return invalid(
        "--acceptance {}: a look-up in the text costs nothing to measure; give "
        "--speculative-config a draft (\"method\": \"dflash\")",
        *flags.acceptance);
  }
  TRY(Session plain, open_session(without.model, isa));
  std::vector<Decode> plain_rounds, drafted_rounds;
  for (int32_t round = 0; round <= kRounds; ++round) {
    TRY(Decode one, decode(plain.engine.get(), flags, round));
    drafted.engine->rehearse({.acceptance = *flags.acceptance, .answers = one.answers});
    TRY(Decode other, decode(drafted.engine.get(), flags, round));
    if (one.answers != other.answers) {
      return error(Code::unsupported,
                   "--acceptance: answers with the draft differ from those without: equal logits "
                   "or a numerical fault; choose other weights or --dtype float32");
    }
    if (round == 0) continue;  // warms caches, pages and threads
    plain_rounds.push_back(std::move(one));
    drafted_rounds.push_back(std::move(other));
  }
  print(median_of(&plain_rounds), median_of(&drafted_rounds), flags,
        drafted.engine->proposer().n_tokens());
  return {};
}

}  // namespace ashlar
