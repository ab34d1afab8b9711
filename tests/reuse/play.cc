#include "play.h"

#include <algorithm>
#include <deque>
#include <vector>

#include "base/check.h"

namespace ashlar::reuse {
namespace {

struct Live {
  const Request* request = nullptr;
  int32_t n_known = 0;  // tokens of the prompt and of the answer so far
  int32_t n_computed = 0;
  bool counted = false;
  size_t slot = 0;
  std::span<const int32_t> known() const {
    return std::span(request->tokens).first(static_cast<size_t>(n_known));
  }
};

class Stage {
 public:
  Stage(const std::vector<Request>& trace, Player* player) : player_(player) {
    for (const Request& request : trace)
      waiting_.push_back({.request = &request, .n_known = request.n_prompt});
    for (size_t slot = 0; slot < kMaxRunning; ++slot) free_slots_.push_back(slot);
  }

  Outcome play() {
    while (!waiting_.empty() || !running_.empty()) step();
    return outcome_;
  }

 private:
  void step() {
    player_->begin_step();
    for (size_t i = 0; i < running_.size(); ++i) {
      if (!advance(i)) continue;
      player_->end(running_[i].slot);
      free_slots_.push_back(running_[i].slot);
      running_.erase(running_.begin() + static_cast<int64_t>(i--));
    }
    while (!waiting_.empty() && !free_slots_.empty() && begin()) {
    }
    CHECK(waiting_.empty() || !running_.empty(), "a request does not fit in an empty cache");
  }

  bool begin() {
    Live live = waiting_.front();
    for (const Live& other : running_) {
      if (other.request->conversation == live.request->conversation) return false;
    }
    live.slot = free_slots_.back();
    const auto start = player_->begin(live.slot, live.known(), live.request->marks);
    if (!start) return false;
    live.n_computed = start->n_computed;
    if (!std::exchange(live.counted, true)) {
      outcome_.prompt_tokens += live.n_known;
      outcome_.found_tokens += start->n_found;
    }
    free_slots_.pop_back();
    waiting_.pop_front();
    running_.push_back(live);
    return true;
  }

  // True when the request is done.
  bool advance(size_t at) {
    const int32_t all = running_[at].request->n_computed();
    if (running_[at].n_computed >= all) return true;
    while (true) {
      Live& live = running_[at];
      int32_t end = std::min(live.n_known, live.n_computed + kStepTokens);
      if (live.n_computed == live.n_known) {
        end = std::min(all, (live.n_computed / kPageTokens + 1) * kPageTokens);
        live.n_known = end;
      }
      if (const auto computed = player_->step(live.slot, live.known(), end)) {
        live.n_computed = *computed;
        return *computed >= all;
      }
      const bool itself = at + 1 == running_.size();
      preempt_last();
      if (itself) return false;
    }
  }

  void preempt_last() {
    player_->end(running_.back().slot);
    free_slots_.push_back(running_.back().slot);
    waiting_.push_front(running_.back());
    running_.pop_back();
    ++outcome_.n_preempted;
  }

  Player* player_;
  std::deque<Live> waiting_;
  std::vector<Live> running_;  // in order of start
  std::vector<size_t> free_slots_;
  Outcome outcome_;
};

}  // namespace

Outcome play(const std::vector<Request>& trace, Player* player) {
  return Stage(trace, player).play();
}

}  // namespace ashlar::reuse
