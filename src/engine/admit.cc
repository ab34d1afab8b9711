// admit: who takes part in the next step, with pages reserved for all of it. The only place where
// pages are taken, and the only place where a running request may lose its own.

#include <algorithm>

#include "engine/engine.h"

namespace ashlar {

StepPlan Engine::admit() {
  retire();
  std::vector<Demand> demands;
  for (const Sequences* list : {&running_, &waiting_}) {
    for (const auto& s : *list) {
      Demand demand{
          .n_pending = s->n_pending(), .running = list == &running_, .every_logit = s->scoring()};
      if (demand.running && demand.n_pending == 1 && s->n_generated() > 0) {
        const int32_t end = s->most_computed(model_.spec().max_positions);
        demand.n_drafts = proposer_.offer(s.get(), end - s->tables.n_tokens - 1);
      }
      demands.push_back(demand);
    }
  }
  const std::vector<int32_t> shares = share_step(demands, budget_);

  StepPlan plan;
  std::vector<Sequence*> chosen;
  for (size_t i = 0; i < running_.size(); ++i) chosen.push_back(running_[i].get());
  const size_t n_running = chosen.size();
  for (size_t i = 0; i < n_running; ++i) {
    Sequence* sequence = chosen[i];
    // A sequence preempted for an earlier one has moved to waiting and sits this step out.
    const bool preempted = std::none_of(running_.begin(), running_.end(),
                                        [&](const auto& other) { return other.get() == sequence; });
    if (shares[i] == 0 || preempted) continue;
    if (shares[i] > sequence->n_pending()) {
      const Slice slice = take_drafts(sequence, shares[i] - 1);
      if (slice.n_drafts > 0) {
        plan.push_back(slice);
        continue;
      }
    }
    const int32_t n_rows =
        rows_to_stop(sequence->tables, std::min(shares[i], sequence->n_pending()));
    if (make_room(sequence, sequence->tables.n_tokens + n_rows, &plan)) {
      plan.push_back({.sequence = sequence, .n_tokens = n_rows});
    }
  }
  // Newcomers take what is free and never take from others. One just preempted is not retried at
  // once.
  for (size_t i = n_running; i < shares.size() && shares[i] > 0; ++i) {
    if (running_.size() < n_running || waiting_.empty()) break;
    Sequence* sequence = waiting_.front().get();
    if (!admit_one(sequence, shares[i], &plan)) break;
    running_.push_back(std::move(waiting_.front()));
    waiting_.pop_front();
  }
  for (size_t g = 0; g < stats_.peak_pages.size(); ++g) {
    stats_.peak_pages[g] = std::max(stats_.peak_pages[g], cache_.held_pages(g));
  }
  return plan;
}

// Holds the longest cached prefix and reserves the first rows after it. False, and nothing held,
// when all its tokens would not fit: it would start only to be preempted.
bool Engine::admit_one(Sequence* sequence, int32_t share, StepPlan* plan) {
  Tables* tables = &sequence->tables;
  bool fits = false;
  if (sequence->scoring()) {  // every row's logits are wanted, so none may be skipped
    fits = cache_.has_room(sequence->n_tokens(), budget_.chunk_tokens);
  } else {
    const int32_t n_matched = cache_.match(tables, {.tokens = sequence->tokens,
                                                    .salt = sequence->request.salt,
                                                    .marks = sequence->request.marks});
    fits = cache_.has_room(*tables, sequence->n_tokens(), budget_.chunk_tokens);
    if (sequence->n_preemptions == 0) sequence->n_cached = n_matched;
  }
  const int32_t n_rows = rows_to_stop(*tables, std::min(share, sequence->n_pending()));
  if (!fits || !cache_.reserve(tables, tables->n_tokens + n_rows)) {
    cache_.release(tables);
    return false;
  }
  plan->push_back({.sequence = sequence, .n_tokens = n_rows});
  return true;
}

// The pending token and proposals behind it, where pages are free for all of them: proposals take
// none from others. Without n_drafts nothing has changed.
Slice Engine::take_drafts(Sequence* sequence, int32_t n_drafts) {
  const int32_t begin = sequence->tables.n_tokens;
  const int32_t end =
      std::min(begin + proposer_.n_rows(), sequence->most_computed(model_.spec().max_positions));
  if (!cache_.reserve(&sequence->tables, end, 1 + n_drafts)) return {};
  return {.sequence = sequence,
          .n_tokens = 1 + n_drafts,
          .n_drafts = n_drafts,
          .n_reserved = end - begin};
}

// A step ends where a state should be kept.
int32_t Engine::rows_to_stop(const Tables& tables, int32_t n_rows) const {
  return std::min(n_rows, cache_.next_stop(tables) - tables.n_tokens);
}

// Reserves up to `end`, taking the pages of the latest admitted sequences while they do not fit.
// False when the sequence itself was the last to give way.
bool Engine::make_room(Sequence* sequence, int32_t end, StepPlan* plan) {
  while (!cache_.reserve(&sequence->tables, end)) {
    Sequence* victim = running_.back().get();
    std::erase_if(*plan, [&](const Slice& slice) { return slice.sequence == victim; });
    preempt(victim);
    if (victim == sequence) return false;
  }
  return true;
}

// REQUIRES the last of running_. Its tokens, generated ones included, are computed again later.
void Engine::preempt(Sequence* sequence) {
  CHECK(running_.back().get() == sequence);
  cache_.release(&sequence->tables);
  ++sequence->n_preemptions;
  ++stats_.n_preemptions;
  waiting_.push_front(std::move(running_.back()));
  running_.pop_back();
}

}  // namespace ashlar
