#pragma once

// What an op's *_bench.cc offers to `ashlar bench ops`: cases that name their work, state its roof
// and run.

#include <functional>
#include <string>
#include <vector>

#include "kernels/ops.h"

namespace ashlar {

struct BenchCase {
  std::string op;     // "gemm"
  std::string shape;  // "M=1 N=4096 K=4096 bf16"
  Roof roof;
  bool bf16 = false;  // arithmetic on the bf16 unit, for the roof
  std::function<void()> run;
};

// Each case keeps its data alive; a list may take a few hundred megabytes while it lives. Inputs
// rotate or exceed the last-level cache where the case is meant to measure memory.
std::vector<BenchCase> rms_norm_bench(const Ops& ops, Pool& pool);
std::vector<BenchCase> gated_norm_bench(const Ops& ops, Pool& pool);
std::vector<BenchCase> gemm_bench(const Ops& ops, Pool& pool);
std::vector<BenchCase> experts_bench(const Ops& ops, Pool& pool);
std::vector<BenchCase> attention_bench(const Ops& ops, Pool& pool);
std::vector<BenchCase> latent_bench(const Ops& ops, Pool& pool);
std::vector<BenchCase> delta_bench(const Ops& ops, Pool& pool);

}  // namespace ashlar
