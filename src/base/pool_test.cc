#include "base/pool.h"

#include <gtest/gtest.h>

namespace ashlar {
namespace {

TEST(Pool, RunsEveryTaskOnceWhateverItsSize) {
  for (const int n_threads : {1, 2, 5}) {
    Pool pool(n_threads);
    for (const int64_t n : {0, 1, 2, 3, 1000}) {
      std::vector<std::atomic<int>> runs(static_cast<size_t>(n));
      pool.each(n, [&](int64_t task, int worker) {
        EXPECT_LT(worker, n_threads);
        runs[static_cast<size_t>(task)].fetch_add(1);
      });
      for (const auto& count : runs) EXPECT_EQ(count.load(), 1);
    }
  }
}

TEST(Pool, ManyShortLoopsBackToBack) {
  Pool pool(3);
  std::atomic<int64_t> sum{0};
  for (int loop = 0; loop < 5000; ++loop) {
    pool.each(4, [&](int64_t task, int) { sum.fetch_add(task); });
  }
  EXPECT_EQ(sum.load(), 5000 * 6);
}

}  // namespace
}  // namespace ashlar
