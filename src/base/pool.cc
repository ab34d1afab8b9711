#include "base/pool.h"

#include <sched.h>

#include "base/check.h"

namespace ashlar {
namespace {

// A step issues a few hundred short loops back to back: a worker that sleeps between them costs
// more than the loop. About 20 us of spinning bridges the gaps; after that the futex is cheaper for
// everyone.
constexpr int kSpins = 4000;

inline void pause_cpu() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

Pool::Pool(int n_threads) {
  CHECK(n_threads >= 1, "n_threads {}", n_threads);
  for (int worker = 1; worker < n_threads; ++worker) {
    threads_.emplace_back([this, worker] { work(worker); });
  }
}

Pool::~Pool() {
  stopping_.store(true);
  epoch_.fetch_add(1);
  epoch_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void Pool::run(int64_t n, Call call, void* fn) {
  if (threads_.empty() || n <= 1) {
    for (int64_t task = 0; task < n; ++task) call(fn, task, 0);
    return;
  }
  call_ = call;
  fn_ = fn;
  n_tasks_ = n;
  next_task_.store(0, std::memory_order_relaxed);
  n_working_.store(static_cast<int>(threads_.size()), std::memory_order_relaxed);
  epoch_.fetch_add(1, std::memory_order_release);
  epoch_.notify_all();
  drain(0);
  for (int spins = 0; n_working_.load(std::memory_order_acquire) != 0;) {
    if (++spins < kSpins) {
      pause_cpu();
    } else {
      std::this_thread::yield();
    }
  }
}

void Pool::drain(int worker) {
  for (int64_t task = next_task_.fetch_add(1); task < n_tasks_; task = next_task_.fetch_add(1)) {
    call_(fn_, task, worker);
  }
}

void Pool::work(int worker) {
  uint32_t seen = 0;
  while (true) {
    for (int spins = 0; epoch_.load(std::memory_order_acquire) == seen && spins < kSpins; ++spins)
      pause_cpu();
    epoch_.wait(seen, std::memory_order_acquire);
    seen = epoch_.load(std::memory_order_acquire);
    if (stopping_.load()) return;
    drain(worker);
    n_working_.fetch_sub(1, std::memory_order_release);
  }
}

int available_threads() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
  const int n = CPU_COUNT(&set);
  return n > 0 ? n : 1;
}

}  // namespace ashlar
