// bench/attention_cuda: attention on this card. A line of JSON a case on standard output: time,
// bytes and flops, percent of the roof measured in the same run, and the relative error against
// sums in double of the numbers that the cache stands for; then tables on standard error.
//
// A time is the median of what events around one step's launches measure, with an L2 cache that
// other data was written through. The body is the one that the table of backends picks. Before
// cases of more than a millisecond the card rests for half a second: prompts one after the other
// heat it until its clock falls, and a case's time would depend on the case before it.

#include <cstdio>
#include <cstring>

#include "bench/attention_cuda/report.h"
#include "bench/attention_cuda/step.cuh"

namespace ashlar::bench {
namespace {

constexpr double kLongUs = 1000;
constexpr double kMostError = 4e-3;

struct Options {
  std::string filter;
  bool json = false;        // no tables
  bool all_bodies = false;  // but the plain one: it is there to be right
  bool clean = false;       // L2 is read through after it was written: nothing to write back
  bool list = false;
};

constexpr const char* kUsage =
    "attention_cuda [--filter TEXT] [--json] [--all-bodies] [--clean-flush] [--list]\n"
    "  --filter TEXT   cases whose names contain it\n"
    "  --json          lines of JSON alone, without tables\n"
    "  --all-bodies    every body that takes a case, not only the one that is picked\n"
    "  --clean-flush   the L2 cache holds clean lines when a case begins, not written ones\n"
    "  --list          the cases\n";

bool parse(int n_args, char** args, Options& options) {
  for (int i = 1; i < n_args; ++i) {
    const std::string_view arg = args[i];
    if (arg == "--filter" && i + 1 < n_args)
      options.filter = args[++i];
    else if (arg == "--json")
      options.json = true;
    else if (arg == "--all-bodies")
      options.all_bodies = true;
    else if (arg == "--clean-flush")
      options.clean = true;
    else if (arg == "--list")
      options.list = true;
    else
      return false;
  }
  return true;
}

// The rows that take the step, best first.
std::vector<const AttentionBackend*> rows_of(const Step& step, const Device& card) {
  std::vector<const AttentionBackend*> rows;
  for (const AttentionBackend& row : attention_backends()) {
    if (refusal(row, card, step.need()).empty() && CudaRow(row, step.need()).takes(step.kv()))
      rows.push_back(&row);
  }
  return rows;
}

void measure(const Case& c, const Options& options, const Device& card, Arena& arena, Run& run) {
  const Step step(c, arena);
  const std::vector<const AttentionBackend*> rows = rows_of(step, card);
  for (const AttentionBackend* row : rows) {
    const bool picked = row == rows.front();
    if (!picked && (!options.all_bodies || std::strcmp(row->name, "cuda_plain") == 0)) continue;
    if (run.roof.us(work_of(c)) > kLongUs) rest();
    const Measured measured =
        step.measure(CudaRow(*row, step.need()), run.repetitions, options.clean);
    run.results.push_back({.c = c,
                           .body = row->name,
                           .picked = picked,
                           .us = measured.us,
                           .error = measured.error,
                           .n_blocks = measured.n_blocks});
    std::printf("%s\n", to_json(run.results.back(), run.roof).c_str());
    std::fflush(stdout);
  }
}

int bench(const Options& options) {
  cudaDeviceProp device{};
  CHECK_CUDA(cudaGetDeviceProperties(&device, 0));
  const Device card{.kind = Device::Kind::cuda, .sm = device.major * 10 + device.minor};
  Run run{.device = device.name,
          .multiprocessors = device.multiProcessorCount,
          .repetitions = 15,
          .clean = options.clean,
          .roof = measure_card_roof()};
  std::printf("%s\n", header_json(run).c_str());
  Arena arena;
  for (const Case& c : cases())
    if (std::strstr(c.name, options.filter.c_str()) != nullptr)
      measure(c, options, card, arena, run);
  std::fputs(ratios_json(run).c_str(), stdout);
  if (!options.json) std::fputs(tables(run).c_str(), stderr);
  int n_wrong = 0;
  for (const Result& r : run.results) n_wrong += !(r.error <= kMostError);
  if (n_wrong > 0) std::fprintf(stderr, "%d cases are off by more than %g\n", n_wrong, kMostError);
  return n_wrong > 0 ? 1 : 0;
}

}  // namespace
}  // namespace ashlar::bench

int main(int n_args, char** args) {
  using namespace ashlar;
  bench::Options options;
  if (!bench::parse(n_args, args, options)) {
    std::fputs(bench::kUsage, stderr);
    return 2;
  }
  if (options.list) {
    for (const bench::Case& c : bench::cases())
      std::printf("%-30s %s\n", c.name, bench::to_text(c).c_str());
    return 0;
  }
  if (!cuda::has_device()) {
    std::fputs("no GPU here\n", stderr);
    return 0;
  }
  return bench::bench(options);
}
