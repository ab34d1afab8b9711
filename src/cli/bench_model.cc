// ashlar bench model: prefill and decode of a whole model, as percent of the measured roof.

#include <algorithm>
#include <cstdio>

#include "cli/account.h"
#include "cli/bench_model.h"
#include "cli/commands.h"
#include "cli/session.h"
#include "cli/speculation.h"
#include "kernels/machine_roof.h"
#include "model/step_roof.h"

namespace ashlar {
namespace {

constexpr int32_t kRounds = 3;

struct Phase {
  const char* name;
  StepSize size;                // of the whole phase's typical step
  std::vector<double> seconds;  // of each of its steps
  double tokens = 0;            // of a step, on average
};

// Seconds of every step until the engine is idle.
std::vector<double> drive(Engine& engine) {
  std::vector<double> seconds;
  while (true) {
    const Stopwatch watch;
    if (!engine.step()) return seconds;
    seconds.push_back(watch.seconds());
  }
}

// The roof is the best of its own passes, so the percentage is the best step's.
void print_phase(const Session& session, Phase phase, const MachineRoof& machine, bool json) {
  std::sort(phase.seconds.begin(), phase.seconds.end());
  const double best = phase.seconds.front();
  const double median = phase.seconds[phase.seconds.size() / 2];
  const Model& model = session.engine->model();
  const DType cache = session.engine->cache().groups().front().dtype;
  const Roof roof = step_roof(model.spec(), model.matrix_dtype(), cache, phase.size);
  const bool floats = model.matrix_dtype() == DType::f32 || model.matrix_dtype() == DType::f16;
  const bool bf16 = model.options().compute == DType::bf16 && !floats;
  const double percent = 100 * machine.seconds(roof, bf16) / best;
  const double tokens = phase.tokens;
  if (json) {
    const Json line = Json::Object{{"phase", phase.name},
                                   {"batch", phase.size.n_sequences},
                                   {"rows", phase.size.rows},
                                   {"kv_len", phase.size.kv_len},
                                   {"steps", static_cast<int64_t>(phase.seconds.size())},
                                   {"ms_per_step", median * 1e3},
                                   {"best_ms", best * 1e3},
                                   {"tokens_per_s", tokens / median},
                                   {"bytes", roof.bytes},
                                   {"flops", roof.flops},
                                   {"gb_per_s", roof.bytes / median * 1e-9},
                                   {"gflop_per_s", roof.flops / median * 1e-9},
                                   {"percent_of_roof", percent}};
    std::printf("%s\n", line.dump().c_str());
  } else {
    std::printf(
        "%-8s %lld x %lld rows at %lld: best %.2f ms, median %.2f ms, %.1f tokens/s, %.0f %% of "
        "the roof\n",
        phase.name, static_cast<long long>(phase.size.n_sequences),
        static_cast<long long>(phase.size.rows), static_cast<long long>(phase.size.kv_len),
        best * 1e3, median * 1e3, tokens / median, percent);
  }
}

void print_speculation(const Engine& engine, bool json) {
  if (engine.proposer().n_tokens() == 0) return;
  const Json line =
      Json::Object{{"phase", "speculative"}, {"speculative", describe_speculation(engine)}};
  std::printf("%s", json ? (line.dump() + "\n").c_str() : speculation_text(engine).c_str());
}

Status bench_model(const BenchModelFlags& given, Isa isa) {
  BenchModelFlags flags = given;
  // One prefill step for the whole batch, so that the two phases do not mix.
  flags.model.max_step_tokens = std::max(flags.model.max_step_tokens, flags.prompt * flags.batch);
  flags.model.max_running = std::max(flags.model.max_running, flags.batch);
  if (flags.acceptance) return bench_acceptance(flags, isa);
  TRY(Session session, open_session(flags.model, isa));
  Engine& engine = *session.engine;
  const int32_t vocab = engine.model().spec().vocab;
  Queue<Event> events;
  // The first round warms caches, pages and threads; each has prompts of its own.
  std::vector<double> prefill, decode;
  Pool pool(flags.model.threads > 0 ? flags.model.threads : available_threads());
  MachineRoof machine = measure_machine_roof(isa, pool);
  for (int32_t round = 0; round <= kRounds; ++round) {
    for (int32_t i = 0; i < flags.batch; ++i) {
      const auto seed = static_cast<uint64_t>(round * flags.batch + i + 1);
      engine.submit({.tokens = some_tokens(flags.prompt, vocab, seed),
                     .max_tokens = round == 0 ? 3 : flags.generate,
                     .sink = &events});
    }
    const std::vector<double> steps = drive(engine);
    for (const Event& event : events.take_all()) {
      if (event.error) return *event.error;
    }
    if (round == 0) continue;
    prefill.push_back(steps.front());
    decode.insert(decode.end(), steps.begin() + 1, steps.end());
  }
  machine = machine.best_of(measure_machine_roof(isa, pool));
  const int32_t middle = flags.prompt + flags.generate / 2;
  const double prompts = static_cast<double>(flags.batch) * flags.prompt;
  const double generated = static_cast<double>(kRounds) * flags.batch * (flags.generate - 1);
  const double per_step = generated / static_cast<double>(decode.size());
  print_phase(session,
              {.name = "prefill",
               .size = {.n_sequences = flags.batch, .rows = flags.prompt, .kv_len = flags.prompt},
               .seconds = std::move(prefill),
               .tokens = prompts},
              machine, flags.model.json);
  print_phase(session,
              {.name = "decode",
               .size = {.n_sequences = flags.batch, .rows = 1, .kv_len = middle},
               .seconds = std::move(decode),
               .tokens = per_step},
              machine, flags.model.json);
  print_speculation(engine, flags.model.json);
  return {};
}

class BenchModelCommand final : public Command {
 public:
  explicit BenchModelCommand(CLI::App* bench)
      : Command(
            bench->add_subcommand("model", "Prefill and decode of a whole model, random tokens.")) {
    add_model_flags(app(), &flags_.model,
                    "One JSON object per phase; with proposals, one on them.");
    app()
        ->add_option("--prompt", flags_.prompt, "Tokens of each prompt.")
        ->check(CLI::Range(1, 1 << 20))
        ->capture_default_str();
    app()
        ->add_option("--generate", flags_.generate, "Tokens to generate for each.")
        ->check(CLI::Range(3, 1 << 20))
        ->capture_default_str();
    app()
        ->add_option("--batch", flags_.batch, "Sequences at once.")
        ->check(CLI::Range(1, 4096))
        ->capture_default_str();
    app()
        ->add_option("--acceptance", flags_.acceptance,
                     "What the draft of --speculative-config costs and saves: the same requests "
                     "without it and with it, its proposals replaced so that this share of them is "
                     "right, 0 to 1. All of the work is done; weights may be dummies. The model is "
                     "loaded twice.")
        ->check(CLI::Range(0.0, 1.0));
  }

  Status run(Isa isa) override { return bench_model(flags_, isa); }

 private:
  BenchModelFlags flags_;
};

}  // namespace

std::vector<int32_t> some_tokens(int64_t n, int32_t vocab, uint64_t seed) {
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < n; ++i) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    tokens.push_back(static_cast<int32_t>((seed >> 33) % static_cast<uint64_t>(vocab)));
  }
  return tokens;
}

std::unique_ptr<Command> make_bench_model(CLI::App* bench) {
  return std::make_unique<BenchModelCommand>(bench);
}

}  // namespace ashlar
