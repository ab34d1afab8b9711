#include "kernels/isa.h"

#include "kernels/cpu_targets.h"
// After cpu_targets.h, which trims the list of targets.
#include "hwy/targets.h"

namespace ashlar {
namespace {

constexpr Isa kAll[] = {Isa::baseline, Isa::avx2, Isa::avx512, Isa::avx512_bf16};

bool runs_here(Isa isa) {
  const int64_t targets = hwy::SupportedTargets();
  switch (isa) {
    case Isa::baseline: return true;
    case Isa::avx2: return (targets & HWY_AVX2) != 0;
    case Isa::avx512: return (targets & HWY_AVX3) != 0;
    case Isa::avx512_bf16:
      return (targets & HWY_AVX3) != 0 && __builtin_cpu_supports("avx512bf16") &&
             __builtin_cpu_supports("avx512vbmi");
  }
  return false;
}

}  // namespace

const char* name(Isa isa) {
  switch (isa) {
    case Isa::baseline: return "baseline";
    case Isa::avx2: return "avx2";
    case Isa::avx512: return "avx512";
    case Isa::avx512_bf16: return "avx512_bf16";
  }
  return "?";
}

Isa best_isa() { return available_isas().back(); }

std::vector<Isa> available_isas() {
  std::vector<Isa> isas;
  for (const Isa isa : kAll) {
    if (runs_here(isa)) isas.push_back(isa);
  }
  return isas;
}

Result<Isa> parse_isa(std::string_view text) {
  for (const Isa isa : kAll) {
    if (text != name(isa)) continue;
    if (!runs_here(isa)) {
      return unsupported("instruction set {}: this machine's best is {}", text, name(best_isa()));
    }
    return isa;
  }
  return invalid("instruction set \"{}\": known are baseline, avx2, avx512, avx512_bf16",
                 excerpt(text));
}

}  // namespace ashlar
