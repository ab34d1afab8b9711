#include "engine/propose.h"

#include <algorithm>

namespace ashlar {

void look_up(std::span<const int32_t> tokens, const Proposals& options, int32_t n,
             std::vector<int32_t>* drafts) {
  const auto size = static_cast<int64_t>(tokens.size());
  const auto at = [&](int64_t i) { return tokens[static_cast<size_t>(i)]; };
  int64_t best_end = -1;  // one past the occurrence
  int32_t best = options.lookup_min - 1;
  for (int64_t end = size - 1; end > best && best < options.lookup_max; --end) {
    int32_t length = 0;
    while (length < options.lookup_max && length < end &&
           at(end - 1 - length) == at(size - 1 - length)) {
      ++length;
    }
    if (length > best) best = length, best_end = end;
  }
  drafts->clear();
  // Where the occurrence overlaps the end, the text repeats itself: the proposal goes on with it.
  for (int64_t i = best_end; best_end >= 0 && std::ssize(*drafts) < n; ++i)
    drafts->push_back(i < size ? at(i) : (*drafts)[static_cast<size_t>(i - size)]);
}

Proposer::Proposer(const Proposals& options) : options_(options) {}

Proposer::Proposer(const Proposals& options, Model draft)
    : options_(options), draft_(std::move(draft)) {
  CHECK(draft_->spec().draft && options.n_tokens < draft_->spec().draft->block_tokens &&
            draft_->options().max_step_tokens >= draft_->spec().draft->block_tokens &&
            draft_->options().max_logit_rows >= options.n_tokens,
        "{} tokens of a draft that has no room for them", options.n_tokens);
}

const char* Proposer::method() const {
  if (options_.n_tokens == 0) return "none";
  return draft_ ? "dflash" : "ngram";
}

int32_t Proposer::n_rows() const {
  return draft_ ? draft_->spec().draft->block_tokens : 1 + options_.n_tokens;
}

int32_t Proposer::offer(Sequence* sequence, int32_t n) const {
  sequence->drafts.clear();
  n = std::min(n, options_.n_tokens);
  if (draft_ || n <= 0) return std::max(0, n);
  look_up(sequence->tokens, options_, n, &sequence->drafts);
  return static_cast<int32_t>(sequence->drafts.size());
}

Status Proposer::propose(StepPlan* plan, Pool& pool) {
  if (!draft_) return {};
  const ModelOptions& limits = draft_->options();
  const int32_t n_most =
      std::min(limits.max_step_tokens / n_rows(), limits.max_logit_rows / options_.n_tokens);
  std::vector<Slice*> slices;
  for (Slice& slice : *plan) {
    if (slice.n_drafts > 0) slices.push_back(&slice);
  }
  std::span<Slice* const> rest = slices;
  while (!rest.empty()) {
    const size_t n = std::min(rest.size(), static_cast<size_t>(n_most));
    TRY_STATUS(run_blocks(rest.first(n), pool));
    rest = rest.subspan(n);
  }
  if (rehearsal_) {
    for (Slice* slice : slices) recite(slice);
  }
  return {};
}

void Proposer::rehearse(Rehearsal rehearsal) {
  CHECK(draft_ && rehearsal.acceptance >= 0 && rehearsal.acceptance <= 1);
  rehearsal_ = std::move(rehearsal);
  wanted_ = 0;
  n_right_ = 0;
}

void Proposer::recite(Slice* slice) {
  const Sequence& s = *slice->sequence;
  const auto answer = rehearsal_->answers.find(s.request.id);
  if (answer == rehearsal_->answers.end()) return;
  std::vector<int32_t>& drafts = slice->sequence->drafts;
  // A little more than the sum of the shares: the tenth 0.1 is a whole token.
  wanted_ += rehearsal_->acceptance * options_.n_tokens;
  const int64_t n_right = static_cast<int64_t>(wanted_ + 1e-6) - n_right_;
  n_right_ += n_right;
  for (int64_t i = 0; i < std::ssize(drafts); ++i) {
    const auto next = static_cast<size_t>(s.n_generated() + i);
    const int32_t right = next < answer->second.size() ? answer->second[next] : 0;
    drafts[static_cast<size_t>(i)] = i < n_right ? right : (right + 1) % draft_->spec().vocab;
  }
}

// [pending token, mask, mask, ...]: row i proposes the token that stands at its own position. The
// block's own K and V lie where its tokens' will, and are written over when those are known.
void Proposer::add_block(const Slice& slice) {
  const Sequence& s = *slice.sequence;
  const auto row = static_cast<int32_t>(step_.tokens.size());
  for (int32_t i = 0; i < slice.n_reserved; ++i) {
    step_.tokens.push_back(i == 0 ? s.tokens.back() : draft_->spec().draft->mask_token);
    step_.positions.push_back(s.tables.n_tokens + i);
  }
  for (int32_t i = 1; i <= slice.n_drafts; ++i) step_.logit_rows.push_back(row + i);
  step_.groups.resize(s.tables.pages.size());
  for (size_t g = 0; g < step_.groups.size(); ++g) {
    step_.groups[g].push_back({.q_begin = row,
                               .q_len = slice.n_reserved,
                               .kv_len = s.tables.n_tokens + slice.n_reserved,
                               .pages = s.tables.pages[g].data()});
  }
}

Status Proposer::run_blocks(std::span<Slice* const> slices, Pool& pool) {
  step_.clear();
  for (const Slice* slice : slices) add_block(*slice);
  TRY(const ConstView logits, draft_->forward(step_, pool));
  const auto vocab = static_cast<size_t>(draft_->spec().vocab);
  int64_t row = 0;
  for (Slice* slice : slices) {
    std::vector<int32_t>& drafts = slice->sequence->drafts;
    drafts.clear();
    const int64_t end = row + slice->n_drafts;
    for (; row < end; ++row) {
      const int32_t token = sample({logits.row<float>(row), vocab}, {}, 0, &sample_scratch_);
      if (token < 0) break;
      drafts.push_back(token);
    }
    row = end;
    const auto n = static_cast<int32_t>(drafts.size());
    slice->n_tokens -= slice->n_drafts - n;
    slice->n_drafts = n;
  }
  return {};
}

void Proposer::follow(const Step& step, const Model& target, Pool& pool) {
  if (draft_) draft_->write_context(step, target.taps(step.n_tokens()), pool);
}

}  // namespace ashlar
