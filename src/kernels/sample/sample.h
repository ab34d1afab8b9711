#pragma once

// Sampling: one token from one row of logits.
//
// In order: temperature, top_k, top_p, min_p, draw. temperature 0 is greedy: the largest logit, the
// lowest id among equals. The draw depends on (seed, position) alone, so a request gives the same
// tokens whatever shares its batch, and again when it is preempted and resumed. NaN logits never
// win; a row without a finite logit is an error, told by token -1.

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "base/result.h"

namespace ashlar {

struct Sampling {
  float temperature = 0.0f;  // >= 0
  int32_t top_k = 0;         // 0: all
  float top_p = 1.0f;        // (0, 1]
  float min_p = 0.0f;        // [0, 1]: least probability relative to the likeliest token's
  uint64_t seed = 0;
};

// invalid names the field, its value and its range.
Status validate(const Sampling& sampling);

// `scratch` is reused between calls. Any thread.
int32_t sample(std::span<const float> logits, const Sampling& sampling, int64_t position,
               std::vector<std::pair<float, int32_t>>* scratch);

// log(softmax(logits)[token]), in double.
double log_probability(std::span<const float> logits, int32_t token);

}  // namespace ashlar
