#pragma once

// Engine: the loop. One thread owns requests, cache and steps:
//
//   for (;;) { take inbox; plan = admit(); step = pack(plan); logits = run(step); commit(plan,
//   logits); }
//
// submit() and cancel() may be called from any thread; everything else belongs to the loop's
// thread. What a request gives does not depend on what shares its steps, on chunking or on
// preemption.

#include <atomic>
#include <deque>
#include <memory>
#include <thread>
#include <variant>
#include <vector>

#include "base/pool.h"
#include "base/queue.h"
#include "engine/order.h"
#include "engine/propose.h"
#include "engine/request.h"
#include "engine/sequence.h"
#include "kv/cache.h"
#include "model/model.h"

namespace ashlar {

// Counters since the engine began; read when it is idle or from the loop's thread.
struct EngineStats {
  int64_t n_steps = 0;
  int64_t n_tokens = 0;  // computed, prefill and decode
  int64_t n_preemptions = 0;
  std::vector<int64_t> peak_pages;  // by cache group
  int64_t n_rounds = 0;             // a sequence's steps with proposals
  int64_t n_drafted = 0;            // tokens proposed in them
  std::vector<int64_t> n_accepted;  // by place among the proposals
  double draft_seconds = 0;         // of the draft: its blocks, and its K and V of every step
  double model_seconds = 0;         // of the model's own passes
};

class Engine {
 public:
  // The cache has the pages of the proposer's draft, too, and is open to its rows
  // (lookahead_tokens, state_slots).
  Engine(Model model, Cache cache, const Budget& budget, int n_threads, Proposer proposer = {});
  ~Engine();  // ends the loop after the step in flight; requests still there end as cancelled

  // Starts the loop on a thread of its own. Without it, the caller drives step().
  void start();

  // Any thread. The request's events arrive at its sink; a request that could never be served gets
  // one Event with Finish::failed.
  void submit(Request request);
  void cancel(RequestId id);

  // One turn of the loop; false when there was nothing to do.
  bool step();

  const Model& model() const { return model_; }
  const Cache& cache() const { return cache_; }
  const Proposer& proposer() const { return proposer_; }
  const EngineStats& stats() const { return stats_; }

  void rehearse(Rehearsal rehearsal) { proposer_.rehearse(std::move(rehearsal)); }  // when idle
  void poison_freed_pages(bool on) { cache_.poison_freed_pages(on); }               // tests
  void audit() const;

 private:
  using Message = std::variant<Request, RequestId>;
  using Sequences = std::deque<std::unique_ptr<Sequence>>;

  void take_inbox();
  Status check(const Request& request) const;
  StepPlan admit();
  bool admit_one(Sequence* sequence, int32_t share, StepPlan* plan);
  bool make_room(Sequence* sequence, int32_t end, StepPlan* plan);
  Slice take_drafts(Sequence* sequence, int32_t n_drafts);
  int32_t rows_to_stop(const Tables& tables, int32_t n_rows) const;
  void preempt(Sequence* sequence);
  void pack(StepPlan* plan);
  Result<ConstView> compute(StepPlan* plan);
  void commit(const StepPlan& plan, const ConstView& logits);
  void draw(const Slice& slice, const ConstView& logits);
  bool is_last(const Sequence& sequence, int32_t token, int32_t n_more) const;
  void count_drafts(const Slice& slice);
  void record_prompt(Sequence* sequence, const Slice& slice, const ConstView& logits);
  void give(Sequence* sequence);
  void finish(Sequence* sequence, Finish finish, std::optional<Error> error = {});
  void retire();
  void end_all(Finish how, const std::optional<Error>& error);
  void tell_cache_range();

  Model model_;
  Cache cache_;
  Budget budget_;
  Proposer proposer_;
  Pool pool_;
  Queue<Message> inbox_;
  Sequences running_;  // in order of admission
  Sequences waiting_;  // in order of arrival; preempted ones at the front
  Step step_;
  std::vector<int32_t> next_;  // tokens drawn for one slice
  std::vector<std::pair<float, int32_t>> sample_scratch_;
  EngineStats stats_;
  bool range_told_ = false;
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

}  // namespace ashlar
