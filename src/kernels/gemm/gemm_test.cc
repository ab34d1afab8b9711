#include "kernels/gemm/gemm.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kernels/testing.h"
#include "tensor/buffer.h"

namespace ashlar {
namespace {

struct Kind {
  DType w, compute;
};
constexpr Kind kKinds[] = {{DType::bf16, DType::bf16},
                           {DType::bf16, DType::f32},
                           {DType::f16, DType::f32},
                           {DType::f32, DType::f32}};

// One product with its data. x, w and y lie in rows wider than they need to be, and what is beside
// a row is NaN: a kernel that reads it shows.
struct Problem {
  int64_t m, n, k;
  Kind kind;
  std::vector<float> x, bias, y;
  std::vector<std::byte> w;
  Buffer workspace;
  GemmParams params;

  Problem(int64_t rows, int64_t columns, int64_t width, Kind of, Random& random, int64_t slack)
      : m(rows), n(columns), k(width), kind(of) {
    x = poisoned(static_cast<size_t>(m * (k + slack) + 1));
    y = poisoned(static_cast<size_t>(m * (n + slack) + 1));
    w.assign(static_cast<size_t>((n * (k + slack) + 1) * size_of(kind.w)), std::byte{0xFF});
    bias = random.normal(n);
    workspace = *Buffer::host(static_cast<size_t>(gemm_workspace_bytes(m, k)) + 64, "workspace");
    params = {.x = strided(x.data(), DType::f32, m, k, slack),
              .w = strided(w.data(), kind.w, n, k, slack),
              .compute = kind.compute,
              .workspace = workspace.bytes()};
    params.y = View(reinterpret_cast<std::byte*>(y.data()), DType::f32, {m, n});
    params.y.strides[0] = n + slack;
    fill(params.x, random);
    fill(params.w, random);
    std::ranges::fill(workspace.bytes(), std::byte{0xFF});
  }

  static ConstView strided(const void* data, DType type, int64_t rows, int64_t width,
                           int64_t slack) {
    ConstView view(static_cast<const std::byte*>(data), type, {rows, width});
    view.strides[0] = width + slack;
    return view;
  }
  static void fill(const ConstView& view, Random& random) {
    for (int64_t r = 0; r < view.dim(0); ++r) {
      const auto values = random.normal(view.dim(1));
      auto* to = const_cast<std::byte*>(view.data) + r * view.stride(0) * size_of(view.dtype);
      const auto copy = [&](const auto& converted) {
        if (!converted.empty()) {
          std::memcpy(to, converted.data(), converted.size() * sizeof converted[0]);
        }
      };
      if (view.dtype == DType::f32) copy(values);
      if (view.dtype == DType::bf16) copy(to_bf16(values));
      if (view.dtype == DType::f16) copy(to_f16(values));
    }
  }

  // The rows of y, after a run of `fn`.
  std::vector<float> run(GemmFn fn, int n_threads = 2) {
    Pool pool(n_threads);
    fn(params, pool);
    return rows();
  }
  std::vector<float> rows() const {
    std::vector<float> out;
    for (int64_t r = 0; r < m; ++r) {
      const float* row = params.y.row<float>(r);
      out.insert(out.end(), row, row + n);
    }
    return out;
  }
};

void expect_close(Problem& problem, Isa isa) {
  const auto expected = problem.run(gemm_ref);
  const auto actual = problem.run(gemm_cpu(isa));
  // Elements are normal, so a sum of k products is of the order of sqrt(k). Lanes and blocks add up
  // rounding errors of 2^-24 each; VDPBF16PS also rounds pairs and flushes denormals.
  double worst = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double error = std::fabs(static_cast<double>(actual[i]) - expected[i]);
    if (!(error <= worst)) worst = error;
  }
  EXPECT_LT(worst, 1e-5 * std::sqrt(static_cast<double>(problem.k)))
      << name(isa) << " m " << problem.m << " n " << problem.n << " k " << problem.k << " w "
      << name(problem.kind.w) << " " << name(problem.kind.compute);
}

TEST(Gemm, EveryIsaMatchesTheReference) {
  Random random(1);
  for (const Kind kind : kKinds) {
    for (const int64_t k : {1, 3, 31, 32, 33, 64, 100, 1024, 1500}) {
      for (const int64_t n : {1, 4, 6, 37}) {
        for (const int64_t m : {1, 2, 3, 5, 6, 7, 20}) {
          Problem problem(m, n, k, kind, random, 0);
          for (const Isa isa : available_isas()) expect_close(problem, isa);
        }
      }
    }
  }
}

TEST(Gemm, RandomShapesWithStridedRowsAndNaNBesideThem) {
  Random random(2);
  for (int i = 0; i < 60; ++i) {
    const Kind kind = kKinds[random.integer(0, 3)];
    Problem problem(random.integer(1, 40), random.integer(1, 90), random.integer(1, 300), kind,
                    random, random.integer(0, 9));
    for (const Isa isa : available_isas()) expect_close(problem, isa);
  }
}

TEST(Gemm, LongRowsAreSummedInBlocks) {
  Random random(3);
  for (const Kind kind : kKinds) {
    for (const int64_t m : {1, 9}) {
      Problem problem(m, 9, 5000, kind, random, 0);
      for (const Isa isa : available_isas()) expect_close(problem, isa);
    }
  }
}

TEST(Gemm, ARowAloneIsTheRowInABatch) {
  Random random(4);
  for (const Kind kind : kKinds) {
    for (const int64_t k : {33, 2100}) {
      Problem most(130, 21, k, kind, random, 0);
      for (const Isa isa : available_isas()) {
        const auto together = most.run(gemm_cpu(isa));
        for (const int64_t m : {1, 2, 3, 5, 16, 17, 64}) {
          // The last m rows alone.
          GemmParams part = most.params;
          part.x = most.params.x.rows(130 - m, 130);
          part.y = most.params.y.rows(130 - m, 130);
          for (int64_t r = 0; r < m; ++r) std::fill_n(part.y.row<float>(r), 21, NAN);
          Pool pool(1);
          gemm_cpu(isa)(part, pool);
          EXPECT_EQ(most.rows(), together) << name(isa) << " m " << m << " k " << k;
        }
      }
    }
  }
}

TEST(Gemm, AColumnDoesNotDependOnTheWeightsAroundIt) {
  Random random(5);
  for (const Kind kind : kKinds) {
    Problem problem(7, 50, 130, kind, random, 0);
    for (const Isa isa : available_isas()) {
      const auto together = problem.run(gemm_cpu(isa));
      for (const int64_t n : {0, 1, 5, 47, 49}) {
        GemmParams part = problem.params;
        part.w = problem.params.w.rows(n, n + 1);
        part.y = problem.params.y.columns(n, n + 1);
        for (int64_t r = 0; r < 7; ++r) *part.y.row<float>(r) = NAN;
        Pool pool(1);
        gemm_cpu(isa)(part, pool);
        EXPECT_EQ(problem.rows(), together) << name(isa) << " n " << n;
      }
    }
  }
}

TEST(Gemm, TheNumberOfThreadsDoesNotMatter) {
  Random random(6);
  for (const int64_t m : {1, 40, 300}) {
    Problem problem(m, 203, 70, kKinds[0], random, 0);
    for (const Isa isa : available_isas()) {
      const auto one = problem.run(gemm_cpu(isa), 1);
      EXPECT_EQ(problem.run(gemm_cpu(isa), 2), one) << name(isa);
      EXPECT_EQ(problem.run(gemm_cpu(isa), 3), one) << name(isa);
    }
  }
}

TEST(Gemm, AccumulateAndBiasAddToThePlainProduct) {
  Random random(7);
  for (const Isa isa : available_isas()) {
    for (const int64_t k : {50, 1300}) {
      Problem problem(5, 23, k, kKinds[0], random, 2);
      const auto plain = problem.run(gemm_cpu(isa));
      const auto twice = [&] {
        problem.params.accumulate = true;
        return problem.run(gemm_cpu(isa));
      }();
      problem.params.accumulate = false;
      problem.params.bias = problem.bias.data();
      const auto biased = problem.run(gemm_cpu(isa));
      for (size_t i = 0; i < plain.size(); ++i) {
        ASSERT_EQ(twice[i], plain[i] + plain[i]) << name(isa);
        ASSERT_EQ(biased[i], plain[i] + problem.bias[i % 23]) << name(isa);
      }
    }
  }
}

TEST(Gemm, NoRowsAndNoWidthAreAllowed) {
  Random random(8);
  for (const Isa isa : available_isas()) {
    Problem none(0, 5, 16, kKinds[0], random, 0);
    EXPECT_TRUE(none.run(gemm_cpu(isa)).empty());
    Problem thin(2, 5, 0, kKinds[1], random, 0);
    EXPECT_EQ(thin.run(gemm_cpu(isa)), std::vector<float>(10, 0.0f));
  }
}

TEST(Gemm, NaNAndInfinityStayInTheirRow) {
  Random random(9);
  for (const Isa isa : available_isas()) {
    Problem problem(6, 8, 40, kKinds[0], random, 0);
    const auto sane = problem.run(gemm_cpu(isa));
    problem.x[2 * 40 + 7] = NAN;
    const auto y = problem.run(gemm_cpu(isa));
    for (size_t i = 0; i < y.size(); ++i) {
      if (i / 8 == 2) {
        EXPECT_TRUE(std::isnan(y[i]));
      } else {
        EXPECT_EQ(y[i], sane[i]);
      }
    }
  }
}

// Weights whose last row ends where the mapping ends: one element further is a fault.
TEST(Gemm, NothingIsReadPastTheLastRow) {
  const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  std::byte* pages = static_cast<std::byte*>(
      ::mmap(nullptr, 17 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(pages, MAP_FAILED);
  ASSERT_EQ(::mprotect(pages + 16 * page, page, PROT_NONE), 0);
  Random random(10);
  for (const Kind kind : kKinds) {
    for (const int64_t k : {1, 7, 33, 130, 1030}) {
      Problem problem(3, 6, k, kind, random, 0);
      const auto bytes = static_cast<size_t>(problem.params.w.bytes());
      std::memcpy(pages + 16 * page - bytes, problem.w.data(), bytes);
      problem.params.w.data = pages + 16 * page - bytes;
      for (const Isa isa : available_isas()) expect_close(problem, isa);
    }
  }
  ::munmap(pages, 17 * page);
}

TEST(Gemm, RoofCountsEachByteOnce) {
  Random random(11);
  Problem problem(2, 3, 5, kKinds[0], random, 0);
  const Roof work = roof(problem.params);
  EXPECT_EQ(work.bytes, 3 * 5 * 2 + 2 * 5 * 4 + 2 * 3 * 4);
  EXPECT_EQ(work.flops, 2 * 2 * 3 * 5);
}

}  // namespace
}  // namespace ashlar
