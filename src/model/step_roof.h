#pragma once

// The least a step must do: every weight matrix it uses read once, every visible K and V read once
// per sequence, and the multiplications. What `ashlar bench model` divides by.

#include "spec/model.h"
#include "tensor/roof.h"

namespace ashlar {

struct StepSize {
  int64_t n_sequences = 1;
  int64_t rows = 1;        // of each sequence
  int64_t kv_len = 1;      // of each sequence, the rows included
  int64_t logit_rows = 1;  // of each sequence
};

// `matrix` and `cache` are the stored types. Experts: at most rows * top_k distinct ones are
// counted.
Roof step_roof(const ModelSpec& model, DType matrix, DType cache, const StepSize& step);

}  // namespace ashlar
