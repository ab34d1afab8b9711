#include "shrink.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>

#include "base/check.h"
#include "world.h"

namespace ashlar::sim {

namespace {

// How many operations a child has begun, in memory it shares with its parent.
class Progress {
 public:
  Progress()
      : at_(static_cast<volatile size_t*>(mmap(nullptr, sizeof(size_t), PROT_READ | PROT_WRITE,
                                               MAP_SHARED | MAP_ANONYMOUS, -1, 0))) {}
  ~Progress() { munmap(const_cast<size_t*>(at_), sizeof(size_t)); }
  void begin(size_t i) { *at_ = i + 1; }
  size_t begun() const { return *at_; }

 private:
  volatile size_t* at_;
};

bool play(const Trace& trace, bool quiet, Progress* progress) {
  const pid_t child = fork();
  CHECK(child >= 0, "no process for a trace");
  if (child == 0) {
    if (quiet) dup2(open("/dev/null", O_WRONLY), STDERR_FILENO);
    alarm(300);
    World world(mix_named(trace.mix));
    for (size_t i = 0; i < trace.ops.size(); ++i) {
      progress->begin(i);
      world.apply(trace.ops[i]);
    }
    _exit(0);
  }
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

}  // namespace

bool survives(const Trace& trace, bool quiet) {
  Progress progress;
  return play(trace, quiet, &progress);
}

Trace shrink(Trace failing) {
  Progress progress;
  if (!play(failing, true, &progress)) failing.ops.resize(progress.begun());
  for (size_t part = std::max<size_t>(1, failing.ops.size() / 2);; part /= 2) {
    bool shorter = true;
    while (shorter) {
      shorter = false;
      for (size_t at = 0; at < failing.ops.size();) {
        Trace without = failing;
        const auto first = without.ops.begin() + static_cast<long>(at);
        without.ops.erase(first,
                          first + static_cast<long>(std::min(part, without.ops.size() - at)));
        if (survives(without, true)) {
          at += part;
        } else {
          failing = std::move(without);
          shorter = part == 1;
        }
      }
    }
    if (part == 1) return failing;
  }
}

}  // namespace ashlar::sim
