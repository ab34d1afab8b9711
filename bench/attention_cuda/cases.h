#pragma once

// What bench/attention_cuda measures, as data.

#include <span>
#include <string>
#include <vector>

#include "kernels/attention/attention.h"
#include "kernels/attention/backends.h"

namespace ashlar::bench {

// What the layers of a group share.
struct Layer {
  AttentionForm form = AttentionForm::heads;
  AttnShape shape;  // latent: k_dim latent + rope, v_dim latent
  bool sinks = false;
};

// How pages are stored, and where they lie.
struct Storage {
  DType dtype = DType::bf16;
  int32_t page_tokens = 64;
  bool token_scales = false;
  bool in_order = false;   // else anywhere in the arena
  int32_t gap_tokens = 0;  // bytes between pages, as rows of a head
};

// n sequences alike.
struct Batch {
  int32_t n = 1;
  int32_t q_len = 1;
  int32_t kv_len = 0;
};

// Microseconds on an H200; 0 where there is none.
struct Marks {
  double required = 0;
  double aim = 0;
  double best = 0;             // the best public kernel, measured on such a card
  const char* best_name = "";  // what it is, and where it is given less to do
};

struct Case {
  const char* name = "";
  const char* section = "";
  Layer layer;
  std::vector<Batch> batch;
  Storage storage;
  Marks marks;
};

std::vector<Case> cases();

// The time of case `of` over that of case `over`, which should stay below `most`.
struct Ratio {
  const char* what = "";
  const char* of = "";
  const char* over = "";
  double most = 0;
};
std::span<const Ratio> ratios();

AttentionNeed need_of(const Case& c);
// "192/128, 64 heads over 4, bf16, 32 x 8192": 32 sequences of 8192 tokens
std::string to_text(const Case& c);

// Visible K and V (or rows) once per sequence, q and out once; products of visible pairs.
Roof work_of(const Case& c);

}  // namespace ashlar::bench
