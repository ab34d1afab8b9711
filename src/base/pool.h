#pragma once

// Pool: a fixed set of threads that run the tasks of one loop and wait. The calling thread works
// too, so Pool(1) starts no thread. One caller at a time (the engine thread); workers own nothing.
//
// Which worker runs a task is not fixed, so a task may write only what no other task of the loop
// touches: results then never depend on the number of threads.

#include <atomic>
#include <cstdint>
#include <thread>
#include <type_traits>
#include <vector>

namespace ashlar {

class Pool {
 public:
  // REQUIRES n_threads >= 1.
  explicit Pool(int n_threads);
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  int size() const { return static_cast<int>(threads_.size()) + 1; }

  // Runs fn(task, worker) for every task in [0, n), worker in [0, size()); returns when all are
  // done. Must not be called from inside a task.
  template <class Fn>
  void each(int64_t n, Fn&& fn) {
    using Plain = std::remove_reference_t<Fn>;
    run(
        n, [](void* f, int64_t task, int worker) { (*static_cast<Plain*>(f))(task, worker); },
        const_cast<void*>(static_cast<const void*>(&fn)));
  }

 private:
  using Call = void (*)(void* fn, int64_t task, int worker);
  void run(int64_t n, Call call, void* fn);
  void work(int worker);
  void drain(int worker);

  // The current loop. Written by the caller before `epoch_` announces it, read by workers after.
  Call call_ = nullptr;
  void* fn_ = nullptr;
  int64_t n_tasks_ = 0;
  std::atomic<int64_t> next_task_{0};
  std::atomic<uint32_t> epoch_{0};  // grows by one per loop; workers wait on it
  std::atomic<int> n_working_{0};   // workers that have not finished the current loop
  std::atomic<bool> stopping_{false};
  std::vector<std::thread> threads_;
};

// Threads a process should use here: the processors it may run on.
int available_threads();

}  // namespace ashlar
