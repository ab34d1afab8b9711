#pragma once

// What a run prints: a line of JSON for each case, and tables for people.

#include <string>
#include <vector>

#include "bench/attention_cuda/cases.h"
#include "bench/attention_cuda/roofs.h"

namespace ashlar::bench {

struct Result {
  Case c;
  std::string body;
  bool picked = true;  // by the table of backends
  double us = 0;
  double error = 0;
  int32_t n_blocks = 0;
};

struct Run {
  std::string device;
  int multiprocessors = 0;
  int repetitions = 0;
  bool clean = false;
  CardRoof roof;
  std::vector<Result> results;
};

std::string header_json(const Run& run);
std::string to_json(const Result& result, const CardRoof& roof);
// A line for each ratio whose cases were measured.
std::string ratios_json(const Run& run);

// A table for each section, then the ratios of cases that were measured.
std::string tables(const Run& run);

}  // namespace ashlar::bench
