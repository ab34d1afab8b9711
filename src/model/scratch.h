#pragma once

// Scratch: the activations and workspaces of one step, allocated once for the largest step a model
// will run, reused by every layer. Everything is f32; rows beyond the step's T are not touched.

#include <span>

#include "base/result.h"
#include "spec/model.h"
#include "tensor/buffer.h"
#include "tensor/view.h"

namespace ashlar {

class Scratch {
 public:
  static Result<Scratch> create(const ModelSpec& model, int64_t max_tokens, int64_t max_logit_rows,
                                int64_t n_taps = 0);

  // Views of the first `n` rows.
  View hidden(int64_t n) const { return hidden_.rows(0, n); }      // [n, H] the residual stream
  View normed(int64_t n) const { return normed_.rows(0, n); }      // [n, H]
  View branch(int64_t n) const { return branch_.rows(0, n); }      // [n, H] to be added to it
  View gathered(int64_t n) const { return gathered_.rows(0, n); }  // [n, H] rows that want logits
  View logits(int64_t n) const { return logits_.rows(0, n); }      // [n, V]
  // Dense [n, width] views over shared storage; REQUIRES width within what any layer of the model
  // needs.
  View q(int64_t n, int64_t width) const { return dense(q_, n, width); }
  View k(int64_t n, int64_t width) const { return dense(k_, n, width); }
  View v(int64_t n, int64_t width) const { return dense(v_, n, width); }
  View attended(int64_t n, int64_t width) const { return dense(attended_, n, width); }
  View gate(int64_t n, int64_t width) const { return dense(gate_, n, width); }
  View up(int64_t n, int64_t width) const { return dense(up_, n, width); }
  // Latent attention's rows: queries absorbed, and latents summed. The MLP's storage, which is free
  // then.
  View absorbed(int64_t n, int64_t width) const { return dense(gate_, n, width); }
  View latents(int64_t n, int64_t width) const { return dense(up_, n, width); }
  View taps(int64_t n) const { return taps_.rows(0, n); }  // [n, n_taps * H]
  View expert_ids(int64_t n, int64_t top_k) const;         // [n, top_k] i32
  View expert_weights(int64_t n, int64_t top_k) const;     // [n, top_k] f32
  View cos_sin(size_t rope, int64_t n) const { return cos_sin_[rope].rows(0, n); }  // [n, 2R]

  // For the ops' own scratch; at least as large as any op of this model asks for.
  std::span<std::byte> workspace() const { return workspace_.bytes(); }
  // Attention's need is known only when a step is planned. exhausted when the system refuses.
  Status grow_workspace(int64_t bytes);

 private:
  static View dense(const View& storage, int64_t n, int64_t width);

  Buffer memory_;
  Buffer workspace_;
  View hidden_, normed_, branch_, gathered_, logits_, q_, k_, v_, attended_, gate_, up_, taps_,
      ids_, weights_;
  std::vector<View> cos_sin_;
};

}  // namespace ashlar
