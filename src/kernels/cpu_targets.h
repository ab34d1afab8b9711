#pragma once

// First include of every *_cpu.cc: which Highway targets the files are compiled for. Each target is
// one more copy of the file, so the list holds the machines we serve and no others; a machine with
// SSE4 but no AVX2 gets the baseline. AVX-512-BF16 is no target of this Highway: such bodies are
// files of their own (*_avx512bf16.cc) with function target attributes.

#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL)
#include "hwy/detect_targets.h"

// ASHLAR_PER_ISA(pick, Fn), inside #if HWY_ONCE: defines pick(isa), the copy of Fn for that set.
// The best target at or below `isa` answers, so an avx512_bf16 machine runs the avx512 copy where
// no special body exists.
#if HWY_ARCH_X86
#define ASHLAR_PER_ISA(pick, Fn)                \
  decltype(&HWY_NAMESPACE::Fn) pick(Isa isa) {  \
    if (isa >= Isa::avx512) return &N_AVX3::Fn; \
    if (isa >= Isa::avx2) return &N_AVX2::Fn;   \
    return &HWY_NAMESPACE::Fn;                  \
  }
#else
#define ASHLAR_PER_ISA(pick, Fn) \
  decltype(&HWY_NAMESPACE::Fn) pick(Isa) { return &HWY_NAMESPACE::Fn; }
#endif
