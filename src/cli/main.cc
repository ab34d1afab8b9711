// ashlar: the command line. Reads flags, sets the log sink, runs one subcommand.

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>

#include "base/log.h"
#include "cli/commands.h"
#include "cli/help.h"

namespace ashlar {
namespace {

constexpr int kBadInput = 2;

int fail(const Error& error) {
  std::fflush(stdout);
  std::fprintf(stderr, "ashlar: %s\n", error.text.c_str());
  return kBadInput;
}

// The environment may hold the machine to a lesser instruction set: for tests and bug reports.
Result<Isa> choose_isa() {
  const char* forced = std::getenv("ASHLAR_FORCE_ISA");
  if (forced == nullptr || *forced == '\0') return best_isa();
  auto isa = parse_isa(forced);
  if (!isa) return Error{isa.error().code, "ASHLAR_FORCE_ISA: " + isa.error().text};
  return isa;
}

// The parser would only say that a subcommand is missing; the word that is none is what helps.
Status check_subcommand(const CLI::App& program, int argc, char** argv) {
  if (argc < 2 || argv[1][0] == '-') return {};
  std::string known;
  for (const CLI::App* command : program.get_subcommands({})) {
    if (command->get_name() == argv[1]) return {};
    known += (known.empty() ? "" : ", ") + command->get_name();
  }
  return invalid("\"{}\" is no subcommand: known are {}", excerpt(argv[1]), known);
}

int run_main(int argc, char** argv) {
  set_log_sink([](LogLevel level, const std::string& text) {
    std::fprintf(stderr, "%s%s\n", level == LogLevel::warning ? "warning: " : "", text.c_str());
  });
  CLI::App program(
      "ashlar runs language models whose layers disagree about memory: full attention beside "
      "sliding\n"
      "windows with sinks, keys wider than values, experts. Every layer kind lives in one cache "
      "arena,\n"
      "without padding. Checkpoints are HuggingFace folders.");
  program.require_subcommand(1);
  program.set_version_flag("--version", "ashlar " ASHLAR_VERSION);
  program.name("ashlar");
  program.formatter(std::make_shared<HelpFormatter>());  // shared: CLI11's own signature
  std::vector<std::unique_ptr<Command>> commands;
  commands.push_back(make_run(&program));
  commands.push_back(make_score(&program));
  commands.push_back(make_eval(&program));
  commands.push_back(make_calibrate(&program));
  commands.push_back(make_plan_command(&program));
  commands.push_back(make_replay(&program));
  commands.push_back(make_backends(&program));
  CLI::App* bench =
      program.add_subcommand("bench", "Measure speed as percent of this machine's roof.");
  bench->require_subcommand(1);
  commands.push_back(make_bench_ops(bench));
  commands.push_back(make_bench_model(bench));
  program.footer(
      "Examples:\n"
      "  ashlar run zoo/mimo-tiny -p \"Ann has 3 apples and buys 4 more. How many now?\"\n"
      "  ashlar eval zoo/mimo-tiny --data zoo/eval.jsonl\n"
      "  ashlar plan config.json --memory 60GiB\n"
      "  ashlar bench model config.json --load-format dummy\n\n"
      "Exit codes: 0 done, 2 bad input or not enough of something (the message says what).\n"
      "ASHLAR_FORCE_ISA=baseline|avx2|avx512|avx512_bf16 holds the kernels to an instruction set.");
  if (const Status status = check_subcommand(program, argc, argv); !status) {
    return fail(status.error());
  }
  try {
    program.parse(argc, argv);
  } catch (const CLI::ParseError& error) {  // --help and --version come this way too
    const int code = program.exit(error);
    return code == 0 ? 0 : kBadInput;
  }
  const auto isa = choose_isa();
  if (!isa) return fail(isa.error());
  for (const auto& command : commands) {
    if (!command->app()->parsed()) continue;
    const Status status = command->run(*isa);
    return status ? 0 : fail(status.error());
  }
  return kBadInput;
}

}  // namespace
}  // namespace ashlar

int main(int argc, char** argv) { return ashlar::run_main(argc, argv); }
