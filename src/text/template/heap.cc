#include "text/template/heap.h"

#include <algorithm>
#include <cstring>

#include "text/template/scope.h"

namespace ashlar::text::jinja {
namespace {
constexpr size_t kChunkBytes = 64 << 10;
}  // namespace

Heap::Heap(const RenderLimits& limits) : limits_(limits) {}
Heap::~Heap() = default;

Status Heap::spend(uint64_t steps) {
  steps_ += steps;
  if (steps_ > limits_.steps) {
    return error(Code::exhausted, "more than {} steps, the limit of one rendering", limits_.steps);
  }
  return afford(0);
}

Status Heap::afford(uint64_t bytes) const {
  if (bytes > limits_.memory_bytes || bytes_ > limits_.memory_bytes - bytes) {
    return error(Code::exhausted, "values of more than {}, the limit of one rendering",
                 human_bytes(limits_.memory_bytes));
  }
  return {};
}

char* Heap::room_for(size_t bytes, size_t chunk_bytes) {
  if (bytes > n_free_) {
    const size_t size = std::max({bytes, chunk_bytes, kChunkBytes});
    chunks_.push_back(std::make_unique_for_overwrite<char[]>(size));
    free_ = chunks_.back().get();
    n_free_ = size;
    charge(size);
  }
  char* room = free_;
  free_ += bytes;
  n_free_ -= bytes;
  return room;
}

std::string_view Heap::join(std::string_view head, std::string_view tail) {
  const bool grows = !head.empty() && head.data() + head.size() == free_;
  if (grows && tail.size() <= n_free_) {
    std::copy(tail.begin(), tail.end(), room_for(tail.size(), 0));
    return {head.data(), head.size() + tail.size()};
  }
  const size_t size = head.size() + tail.size();
  if (size == 0) return {};
  char* room = room_for(size, tail.empty() ? size : 2 * size);
  std::copy(head.begin(), head.end(), room);
  std::copy(tail.begin(), tail.end(), room + head.size());
  return {room, size};
}

Value Heap::text(std::string_view text, bool safe) { return Value::string(keep(text), safe); }

Value Heap::sequence(Shape shape, std::vector<Value> items) {
  charge(sizeof(Sequence) + items.capacity() * sizeof(Value));
  sequences_.push_back({.shape = shape, .items = std::move(items)});
  return Value::of(&sequences_.back());
}

Value Heap::dict(std::vector<std::pair<Value, Value>> entries) {
  charge(sizeof(Dict) + entries.capacity() * sizeof(std::pair<Value, Value>));
  dicts_.push_back({std::move(entries)});
  return Value::of(&dicts_.back());
}

Space* Heap::space() {
  charge(sizeof(Space));
  return &spaces_.emplace_back();
}

Callable* Heap::callable(Callable callable) {
  charge(sizeof(Callable));
  return &callables_.emplace_back(std::move(callable));
}

Loop* Heap::loop(Loop loop) {
  charge(sizeof(Loop));
  return &loops_.emplace_back(std::move(loop));
}

Scope* Heap::scope(Scope* outer) {
  charge(sizeof(Scope));
  return &scopes_.emplace_back(Scope{.outer = outer});
}

}  // namespace ashlar::text::jinja
