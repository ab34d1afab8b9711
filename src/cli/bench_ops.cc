// ashlar bench ops: every op's large shapes, as percent of the roof measured in the same run.

#include <algorithm>
#include <cstdio>

#include "cli/account.h"
#include "cli/commands.h"
#include "cli/progress.h"
#include "kernels/bench.h"
#include "kernels/machine_roof.h"

namespace ashlar {
namespace {

struct OpsFlags {
  std::string filter;
  double seconds = 0.5;
  int32_t threads = 0;
  bool json = false;
};

// Seconds of repeated runs, after one that warms up.
struct Times {
  double median = 0;
  double best = 0;
};

Times time_runs(const std::function<void()>& run, double for_seconds) {
  run();
  std::vector<double> times;
  for (const Stopwatch all; times.size() < 5 || all.seconds() < for_seconds;) {
    const Stopwatch one;
    run();
    times.push_back(one.seconds());
  }
  std::sort(times.begin(), times.end());
  return {.median = times[times.size() / 2], .best = times.front()};
}

void print_roof(const MachineRoof& roof, Isa isa, int n_threads, bool json) {
  if (json) {
    const Json line = Json::Object{{"machine", "roof"},
                                   {"isa", name(isa)},
                                   {"threads", n_threads},
                                   {"read_gb_per_s", roof.read_bytes_per_s * 1e-9},
                                   {"f32_gflop_per_s", roof.f32_flops_per_s * 1e-9},
                                   {"bf16_gflop_per_s", roof.bf16_flops_per_s * 1e-9}};
    std::printf("%s\n", line.dump().c_str());
  } else {
    std::printf("%s, %d threads: read %.1f GB/s, f32 %.0f GFLOP/s, bf16 %.0f GFLOP/s\n", name(isa),
                n_threads, roof.read_bytes_per_s * 1e-9, roof.f32_flops_per_s * 1e-9,
                roof.bf16_flops_per_s * 1e-9);
    std::printf("%-10s %-64s %9s %9s %5s\n", "op", "shape", "best us", "median", "roof");
  }
  std::fflush(stdout);
}

// The roof is the best of its own passes, so the percentage is the best run's; a busy machine shows
// as a median far from the best.
void print_case(const BenchCase& one, const Times& times, const MachineRoof& roof, bool json) {
  const double percent = 100 * roof.seconds(one.roof, one.bf16) / times.best;
  const double seconds = times.median;
  if (json) {
    const Json line = Json::Object{{"op", one.op},
                                   {"shape", one.shape},
                                   {"us", seconds * 1e6},
                                   {"best_us", times.best * 1e6},
                                   {"bytes", one.roof.bytes},
                                   {"flops", one.roof.flops},
                                   {"gb_per_s", one.roof.bytes / seconds * 1e-9},
                                   {"gflop_per_s", one.roof.flops / seconds * 1e-9},
                                   {"percent_of_roof", percent}};
    std::printf("%s\n", line.dump().c_str());
  } else {
    std::printf("%-10s %-64s %9.1f %9.1f %4.0f%%\n", one.op.c_str(), one.shape.c_str(),
                times.best * 1e6, seconds * 1e6, percent);
  }
  std::fflush(stdout);
}

struct Measured {
  BenchCase what;
  Times times;
};

// Everything is timed before anything is printed: the roof is measured around every list, so that a
// moment in which the machine was busy does not lower it.
Status bench_ops(const OpsFlags& flags, Isa isa) {
  Pool pool(flags.threads > 0 ? flags.threads : available_threads());
  MachineRoof roof = measure_machine_roof(isa, pool);
  const Ops ops = cpu_ops(isa);
  std::vector<Measured> measured;
  Progress bar("measuring");
  // One list at a time: each holds its data while it lives.
  for (const auto make : {rms_norm_bench, gated_norm_bench, gemm_bench, experts_bench,
                          attention_bench, latent_bench, delta_bench}) {
    for (BenchCase& one : make(ops, pool)) {
      if ((one.op + " " + one.shape).find(flags.filter) == std::string::npos) continue;
      const Times times = time_runs(one.run, flags.seconds);
      one.run = {};
      measured.push_back({.what = std::move(one), .times = times});
      bar.update(static_cast<int64_t>(measured.size()), static_cast<int64_t>(measured.size()) + 1);
    }
    roof = roof.best_of(measure_machine_roof(isa, pool));
  }
  if (measured.empty()) {
    return invalid("--filter \"{}\": no case has it in its name", excerpt(flags.filter));
  }
  print_roof(roof, isa, pool.size(), flags.json);
  for (const Measured& m : measured) print_case(m.what, m.times, roof, flags.json);
  return {};
}

class BenchOpsCommand final : public Command {
 public:
  explicit BenchOpsCommand(CLI::App* bench)
      : Command(bench->add_subcommand(
            "ops", "Each kernel on large shapes, as percent of the measured roof.")) {
    app()->add_option("--filter", flags_.filter, "Only cases with this text in their op or shape.");
    app()
        ->add_option("--seconds", flags_.seconds, "Time per case.")
        ->check(CLI::Range(0.0, 60.0))
        ->capture_default_str();
    app()
        ->add_option("--threads", flags_.threads, "0: every processor.")
        ->check(CLI::Range(0, 1024));
    app()->add_flag("--json", flags_.json, "One JSON object per line, the machine's roof first.");
  }

  Status run(Isa isa) override { return bench_ops(flags_, isa); }

 private:
  OpsFlags flags_;
};

}  // namespace

std::unique_ptr<Command> make_bench_ops(CLI::App* bench) {
  return std::make_unique<BenchOpsCommand>(bench);
}

}  // namespace ashlar
