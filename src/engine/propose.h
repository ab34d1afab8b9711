#pragma once

// Proposer: tokens that are likely to come next, for the model to check many of them in one step.
// Whatever it proposes, the tokens given out are the model's own: a proposal only saves steps.
// Engine thread only.

#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "engine/sequence.h"
#include "model/model.h"

namespace ashlar {

struct Proposals {
  int32_t n_tokens = 0;  // proposed at most, each step; 0: none
  // Of a look-up in the text: lengths of the ends that are looked for, 1 <= min <= max.
  int32_t lookup_max = 4;
  int32_t lookup_min = 2;
};

// For measuring what a draft costs and saves without one that is any good: it computes its blocks,
// then says what the request is known to say next for a share of n_tokens, and wrong tokens after
// that. The model checks them like any others.
struct Rehearsal {
  double acceptance = 0;                              // the share, in [0, 1]; even over steps
  std::map<RequestId, std::vector<int32_t>> answers;  // what each request generates
};

// What followed the last earlier occurrence of the text's end: the longest end of lookup_min to
// lookup_max tokens that occurs earlier. At most n tokens into *drafts; none when none does.
// O(text * lookup_max).
void look_up(std::span<const int32_t> tokens, const Proposals& options, int32_t n,
             std::vector<int32_t>* drafts);

class Proposer {
 public:
  Proposer() = default;                         // proposes nothing
  explicit Proposer(const Proposals& options);  // what the text itself says
  // What the draft says, whose groups are in the target's cache. REQUIRES n_tokens less than the
  // draft's block, and room in the draft for a block's rows and for as many logits as n_tokens.
  Proposer(const Proposals& options, Model draft);

  const char* method() const;  // "none", "ngram", "dflash"
  int32_t n_tokens() const { return options_.n_tokens; }
  // Positions it may write, from the pending token's on: those tokens must be reserved.
  int32_t n_rows() const;
  // Until the next call. REQUIRES a draft; requests without an answer are proposed what it says.
  void rehearse(Rehearsal rehearsal);
  const Model* draft() const { return draft_ ? &*draft_ : nullptr; }

  // Before pages are taken: how many tokens it would propose, at most n. A look-up is done here.
  int32_t offer(Sequence* sequence, int32_t n) const;
  // Fills `drafts` of every slice that has n_drafts; less of them where the draft has no answer.
  // exhausted when the draft's workspace is refused.
  Status propose(StepPlan* plan, Pool& pool);
  // After the target's step, before its commit: what it computed, the draft knows.
  void follow(const Step& step, const Model& target, Pool& pool);

 private:
  void add_block(const Slice& slice);
  Status run_blocks(std::span<Slice* const> slices, Pool& pool);
  void recite(Slice* slice);

  Proposals options_;
  std::optional<Model> draft_;
  Step step_;  // the draft's
  std::vector<std::pair<float, int32_t>> sample_scratch_;
  std::optional<Rehearsal> rehearsal_;
  double wanted_ = 0;  // right proposals since it began; and how many there have been
  int64_t n_right_ = 0;
};

}  // namespace ashlar
