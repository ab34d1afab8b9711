#include "engine/engine.h"

#include <algorithm>
#include <chrono>

#include "base/log.h"

namespace ashlar {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_between(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

}  // namespace

const char* name(Finish finish) {
  switch (finish) {
    case Finish::stop: return "stop";
    case Finish::length: return "length";
    case Finish::cancelled: return "cancelled";
    case Finish::failed: return "error";
  }
  return "?";
}

Engine::Engine(Model model, Cache cache, const Budget& budget, int n_threads, Proposer proposer)
    : model_(std::move(model)),
      cache_(std::move(cache)),
      budget_(budget),
      proposer_(std::move(proposer)),
      pool_(n_threads) {
  budget_.step_tokens = std::min(budget_.step_tokens, model_.options().max_step_tokens);
  budget_.chunk_tokens = std::min(budget_.chunk_tokens, budget_.step_tokens);
  budget_.logit_rows = std::min(budget_.logit_rows, model_.options().max_logit_rows);
  step_.groups.resize(cache_.groups().size());
  stats_.peak_pages.resize(cache_.groups().size(), 0);
  stats_.n_accepted.resize(static_cast<size_t>(proposer_.n_tokens()), 0);
}

Engine::~Engine() {
  stopping_ = true;
  inbox_.close();
  if (thread_.joinable()) thread_.join();
  take_inbox();
  end_all(Finish::cancelled, std::nullopt);
  tell_cache_range();  // of what there was, when it was little
}

void Engine::start() {
  thread_ = std::thread([this] {
    while (!stopping_) {
      if (step()) continue;
      if (!inbox_.wait()) return;
    }
  });
}

void Engine::submit(Request request) { inbox_.push(std::move(request)); }

void Engine::cancel(RequestId id) { inbox_.push(id); }

bool Engine::step() {
  take_inbox();
  StepPlan plan = admit();
  retire();
  if (plan.empty()) return false;
  cache_.run_copies();  // pages that must be private before the step writes them
  const auto logits = compute(&plan);
  if (!logits) {
    end_all(Finish::failed, logits.error());
  } else {
    commit(plan, *logits);
    if (model_.counted_tokens() > 0 && !model_.is_counting()) tell_cache_range();
  }
  retire();
  return true;
}

Result<ConstView> Engine::compute(StepPlan* plan) {
  const auto start = Clock::now();
  TRY_STATUS(proposer_.propose(plan, pool_));
  const auto proposed = Clock::now();
  pack(plan);
  const auto packed = Clock::now();
  TRY(const ConstView logits, model_.forward(step_, pool_));
  const auto modelled = Clock::now();
  proposer_.follow(step_, model_, pool_);
  stats_.draft_seconds +=
      seconds_between(start, proposed) + seconds_between(modelled, Clock::now());
  stats_.model_seconds += seconds_between(packed, modelled);
  return logits;
}

void Engine::take_inbox() {
  for (Message& message : inbox_.take_all()) {
    if (auto* id = std::get_if<RequestId>(&message)) {
      for (const Sequences* list : {&running_, &waiting_}) {
        for (const auto& sequence : *list) sequence->cancelled |= sequence->request.id == *id;
      }
      continue;
    }
    auto sequence = std::make_unique<Sequence>();
    sequence->request = std::get<Request>(std::move(message));
    sequence->tokens = sequence->request.tokens;
    const Status status = check(sequence->request);
    if (!status) {
      finish(sequence.get(), Finish::failed, status.error());
    } else {
      waiting_.push_back(std::move(sequence));
    }
  }
}

// What can never be served is refused once, at the door, with the numbers.
Status Engine::check(const Request& request) const {
  const ModelSpec& spec = model_.spec();
  if (request.tokens.empty()) return invalid("the prompt has no tokens: at least one is needed");
  if (request.max_tokens < 0)
    return invalid("max_tokens {}: must not be negative", request.max_tokens);
  TRY_STATUS(validate(request.sampling));
  for (size_t i = 0; i < request.tokens.size(); ++i) {
    const int32_t token = request.tokens[i];
    if (token < 0 || token >= spec.vocab) {
      return invalid("prompt token {} is {}: the vocabulary has ids 0 to {}", i, token,
                     spec.vocab - 1);
    }
  }
  const auto n_prompt = static_cast<int64_t>(request.tokens.size());
  if (n_prompt > spec.max_positions) {
    return invalid("the prompt has {} tokens: the model has {} positions", n_prompt,
                   spec.max_positions);
  }
  const int64_t end = n_prompt + std::max(0, request.max_tokens - 1);
  if (end > (1 << 30) || !cache_.could_ever_fit(static_cast<int32_t>(end), budget_.chunk_tokens)) {
    return error(Code::exhausted,
                 "a prompt of {} tokens with {} to generate needs {} cached tokens: the cache of "
                 "{} holds at most "
                 "{}; give more --memory or fewer tokens",
                 n_prompt, request.max_tokens, end,
                 human_bytes(cache_.arena().layout().arena_bytes()),
                 cache_.longest_sequence(budget_.chunk_tokens));
  }
  return {};
}

void Engine::finish(Sequence* sequence, Finish how, std::optional<Error> error) {
  Event event{.id = sequence->request.id, .finish = how, .error = std::move(error)};
  event.usage = {.prompt_tokens = sequence->n_prompt(),
                 .completion_tokens = sequence->n_generated(),
                 .cached_tokens = sequence->n_cached,
                 .preemptions = sequence->n_preemptions};
  event.prompt_nll = std::move(sequence->prompt_nll);
  event.last_logits = std::move(sequence->last_logits);
  cache_.release(&sequence->tables);
  if (sequence->request.sink != nullptr) sequence->request.sink->push(std::move(event));
  sequence->request.sink = nullptr;  // a finished sequence says nothing more; retire() removes it
}

// Cancelled and finished sequences leave here and only here, when no step names them.
void Engine::retire() {
  for (Sequences* list : {&running_, &waiting_}) {
    for (const auto& sequence : *list) {
      if (sequence->cancelled && sequence->request.sink != nullptr)
        finish(sequence.get(), Finish::cancelled);
    }
    std::erase_if(*list, [](const auto& sequence) { return sequence->request.sink == nullptr; });
  }
}

void Engine::end_all(Finish how, const std::optional<Error>& error) {
  for (Sequences* list : {&running_, &waiting_}) {
    for (const auto& sequence : *list) finish(sequence.get(), how, error);
  }
}

void Engine::audit() const {
  std::vector<const Tables*> all;
  for (const Sequences* list : {&running_, &waiting_}) {
    for (const auto& sequence : *list) all.push_back(&sequence->tables);
  }
  cache_.audit(all);
}

}  // namespace ashlar
