#pragma once

// Heap: owns every value that one rendering makes, frees them together at its end, and meters the
// rendering against its limits. Nothing is freed before: values point at each other freely.
//
// One rendering, one thread.

#include <cstddef>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "text/template/limits.h"
#include "text/template/value.h"

namespace ashlar::text::jinja {

struct Scope;

class Heap {
 public:
  explicit Heap(const RenderLimits& limits);
  ~Heap();
  Heap(const Heap&) = delete;
  Heap& operator=(const Heap&) = delete;

  const RenderLimits& limits() const { return limits_; }

  // Accounts for work done or about to be done; exhausted when over the limit of steps or memory.
  Status spend(uint64_t steps);

  // Exhausted when something of this size would not fit. To be asked before building what can be
  // much larger than what it is made of.
  Status afford(uint64_t bytes) const;

  // Copies of text. `join` grows the head in place when it was the last text made, so that a loop
  // of appends is linear.
  Value text(std::string_view text, bool safe = false);
  std::string_view keep(std::string_view text) { return join(text, {}); }
  std::string_view join(std::string_view head, std::string_view tail);

  Value sequence(Shape shape, std::vector<Value> items);
  Value list(std::vector<Value> items) { return sequence(Shape::list, std::move(items)); }
  Value tuple(std::vector<Value> items) { return sequence(Shape::tuple, std::move(items)); }
  Value dict(std::vector<std::pair<Value, Value>> entries);
  Space* space();
  Callable* callable(Callable callable);
  Loop* loop(Loop loop);
  Scope* scope(Scope* outer);

 private:
  char* room_for(size_t bytes, size_t chunk_bytes);
  void charge(size_t bytes) { bytes_ += bytes; }

  RenderLimits limits_;
  uint64_t steps_ = 0;
  uint64_t bytes_ = 0;
  std::vector<std::unique_ptr<char[]>> chunks_;
  char* free_ = nullptr;  // the rest of the last chunk
  size_t n_free_ = 0;
  std::deque<Sequence> sequences_;
  std::deque<Dict> dicts_;
  std::deque<Space> spaces_;
  std::deque<Callable> callables_;
  std::deque<Loop> loops_;
  std::deque<Scope> scopes_;
};

}  // namespace ashlar::text::jinja
