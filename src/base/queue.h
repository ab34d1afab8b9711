#pragma once

// Queue<T>: values moved between threads, many producers, one consumer. It is where the server's
// threads and the engine thread meet; nothing else is shared between them.

#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <utility>

namespace ashlar {

template <class T>
class Queue {
 public:
  // False when closed; the value is then dropped.
  bool push(T value) {
    {
      const std::lock_guard lock(mutex_);
      if (closed_) return false;
      items_.push_back(std::move(value));
    }
    ready_.notify_one();
    return true;
  }

  // Everything waiting, at once, without waiting.
  std::deque<T> take_all() {
    const std::lock_guard lock(mutex_);
    return std::exchange(items_, {});
  }

  // The next value; waits for one. Empty only when closed and drained.
  std::optional<T> pop() {
    std::unique_lock lock(mutex_);
    ready_.wait(lock, [&] { return !items_.empty() || closed_; });
    if (items_.empty()) return std::nullopt;
    T value = std::move(items_.front());
    items_.pop_front();
    return value;
  }

  // Waits until something is there or the queue is closed; false when closed and drained.
  bool wait() {
    std::unique_lock lock(mutex_);
    ready_.wait(lock, [&] { return !items_.empty() || closed_; });
    return !items_.empty();
  }

  void close() {
    {
      const std::lock_guard lock(mutex_);
      closed_ = true;
    }
    ready_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable ready_;
  std::deque<T> items_;  // guarded by mutex_
  bool closed_ = false;  // guarded by mutex_
};

}  // namespace ashlar
