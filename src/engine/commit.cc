// commit: what a finished step changed. Tokens become computed, pages behind windows leave, the
// next tokens are drawn, and requests that are done say so.

#include <algorithm>

#include "engine/engine.h"

namespace ashlar {

void Engine::commit(const StepPlan& plan, const ConstView& logits) {
  ++stats_.n_steps;
  for (const Slice& slice : plan) {
    Sequence* sequence = slice.sequence;
    record_prompt(sequence, slice, logits);
    const int32_t n_rows = slice.n_tokens - slice.n_drafts;
    const bool whole = n_rows == sequence->n_pending();
    next_.clear();
    if (whole && !sequence->cancelled) draw(slice, logits);
    // All that was drawn but the last one is computed already: it was proposed.
    const auto n_accepted = std::max<int32_t>(0, static_cast<int32_t>(next_.size()) - 1);
    sequence->tokens.insert(sequence->tokens.end(), next_.begin(), next_.begin() + n_accepted);
    cache_.commit(&sequence->tables, sequence->tables.n_tokens + n_rows + n_accepted,
                  sequence->tokens);
    stats_.n_tokens += slice.n_tokens;
    if (slice.n_drafts > 0) count_drafts(slice);
    if (whole && !sequence->cancelled) give(sequence);
  }
}

// Into next_: the model's own next token, and one more for each proposal that it would have drawn
// itself, with the very numbers that it would be drawn with alone.
void Engine::draw(const Slice& slice, const ConstView& logits) {
  const Sequence& s = *slice.sequence;
  if (s.n_generated() >= s.request.max_tokens) return;
  const auto vocab = static_cast<size_t>(model_.spec().vocab);
  const int32_t first = slice.first_logit + slice.n_logits - 1 - slice.n_drafts;
  for (int32_t i = 0; i <= slice.n_drafts; ++i) {
    const std::span<const float> row(logits.row<float>(first + i), vocab);
    const int32_t token = sample(row, s.request.sampling, s.n_tokens() + i, &sample_scratch_);
    next_.push_back(token);
    if (token < 0 || is_last(s, token, i + 1)) return;
    if (i < slice.n_drafts && token != s.drafts[static_cast<size_t>(i)]) return;
  }
}

// Whether `token` would end the request as the n_more-th from now.
bool Engine::is_last(const Sequence& sequence, int32_t token, int32_t n_more) const {
  const auto& stops = sequence.request.stop_tokens;
  return std::find(stops.begin(), stops.end(), token) != stops.end() ||
         sequence.n_generated() + n_more >= sequence.request.max_tokens ||
         sequence.n_tokens() + n_more >= model_.spec().max_positions;
}

void Engine::count_drafts(const Slice& slice) {
  ++stats_.n_rounds;
  stats_.n_drafted += slice.n_drafts;
  const auto& drafts = slice.sequence->drafts;
  const size_t n = std::min(next_.size(), static_cast<size_t>(slice.n_drafts));
  for (size_t i = 0; i < n && next_[i] == drafts[i]; ++i) ++stats_.n_accepted[i];
}

// Keeps what a scoring request asked for. Row i predicts token i + 1.
void Engine::record_prompt(Sequence* sequence, const Slice& slice, const ConstView& logits) {
  const auto vocab = static_cast<size_t>(model_.spec().vocab);
  const int32_t begin = sequence->tables.n_tokens;
  const int32_t first = slice.n_tokens - slice.n_logits;
  for (int32_t i = first; i < slice.n_tokens; ++i) {
    const std::span<const float> row(logits.row<float>(slice.first_logit + i - first), vocab);
    const int32_t next = begin + i + 1;
    const bool is_next = static_cast<int32_t>(sequence->prompt_nll.size()) + 1 == next;
    if (sequence->request.want_prompt_nll && is_next && next < sequence->n_prompt()) {
      const int32_t token = sequence->tokens[static_cast<size_t>(next)];
      sequence->prompt_nll.push_back(static_cast<float>(-log_probability(row, token)));
    }
    if (sequence->request.want_last_logits && next == sequence->n_prompt()) {
      sequence->last_logits.assign(row.begin(), row.end());
    }
  }
}

// Hands out next_, of which all but the last one stand among the tokens already.
void Engine::give(Sequence* sequence) {
  const Request& request = sequence->request;
  if (next_.empty()) return finish(sequence, Finish::length);  // nothing was to be generated
  for (const int32_t token : next_) {
    if (token < 0) {
      return finish(sequence, Finish::failed,
                    ashlar::error(Code::invalid,
                                  "the logits after token {} are not finite: the weights or the "
                                  "numerics are broken",
                                  sequence->n_tokens() - 1));
    }
    if (request.sink != nullptr) request.sink->push({.id = request.id, .token = token});
  }
  const int32_t last = next_.back();
  const bool done = is_last(*sequence, last, 1);
  sequence->tokens.push_back(last);
  if (!done) return;
  const auto& stops = request.stop_tokens;
  const bool stop = std::find(stops.begin(), stops.end(), last) != stops.end();
  finish(sequence, stop ? Finish::stop : Finish::length);
}

}  // namespace ashlar
