// commit: what a finished step changed. Tokens become computed, pages behind windows leave, the
// next tokens are drawn, and requests that are done say so.

#include <algorithm>

#include "engine/engine.h"

namespace ashlar {

void Engine::commit(const StepPlan& plan, const ConstView& logits) {
  const int64_t vocab = model_.spec().vocab;
  ++stats_.n_steps;
  for (const Slice& slice : plan) {
    Sequence* sequence = slice.sequence;
    record_prompt(sequence, slice, logits);
    cache_.commit(&sequence->tables, sequence->tables.n_tokens + slice.n_tokens, sequence->tokens);
    stats_.n_tokens += slice.n_tokens;
    if (sequence->n_pending() > 0 || sequence->cancelled) continue;
    const float* last = logits.row<float>(slice.first_logit + slice.n_logits - 1);
    accept(sequence, {last, static_cast<size_t>(vocab)});
  }
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

void Engine::accept(Sequence* sequence, std::span<const float> logits) {
  const Request& request = sequence->request;
  if (sequence->n_generated() >= request.max_tokens) return finish(sequence, Finish::length);
  const int32_t token = sample(logits, request.sampling, sequence->n_tokens(), &sample_scratch_);
  if (token < 0) {
    return finish(sequence, Finish::failed,
                  ashlar::error(Code::invalid,
                                "the logits after token {} are not finite: the weights or the "
                                "numerics are broken",
                                sequence->n_tokens() - 1));
  }
  sequence->tokens.push_back(token);
  if (request.sink != nullptr) request.sink->push({.id = request.id, .token = token});
  const auto& stops = request.stop_tokens;
  if (std::find(stops.begin(), stops.end(), token) != stops.end())
    return finish(sequence, Finish::stop);
  const bool full = sequence->n_generated() >= request.max_tokens ||
                    sequence->n_tokens() >= model_.spec().max_positions;
  if (full) finish(sequence, Finish::length);
}

}  // namespace ashlar
