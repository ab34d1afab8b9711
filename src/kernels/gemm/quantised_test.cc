// Products with codes: as many laws as gemm_test.cc proves of elements, and what codes stand for.

#include <gtest/gtest.h>

#include <cstring>

#include "kernels/gemm/codes.h"
#include "kernels/gemm/gemm.h"
#include "kernels/gemm/quantised_testing.h"
#include "tensor/buffer.h"

namespace ashlar {
namespace {

constexpr DType kStored[] = {DType::f8e4m3, DType::u8};
constexpr DType kComputed[] = {DType::bf16, DType::f32};

std::vector<float> run(GemmFn fn, const Matrix& w, const std::vector<float>& x, DType compute,
                       int n_threads = 2) {
  const int64_t k = w.width(), m = static_cast<int64_t>(x.size()) / k;
  std::vector<float> y = poisoned(static_cast<size_t>(m * w.dim(0)));
  Buffer workspace = *Buffer::host(static_cast<size_t>(gemm_workspace_bytes(m, k)), "workspace");
  std::ranges::fill(workspace.bytes(), std::byte{0xFF});
  Pool pool(n_threads);
  fn({.x = view(x, {m, k}),
      .w = w,
      .y = view(y, {m, w.dim(0)}),
      .compute = compute,
      .workspace = workspace.bytes()},
     pool);
  return y;
}

void expect_close(const Matrix& w, const std::vector<float>& x, const std::string& what) {
  for (const DType compute : kComputed) {
    const auto expected = run(gemm_ref, w, x, compute);
    for (const Isa isa : available_isas()) {
      // x rounded alike on both sides: what is left is the rounding of sums.
      EXPECT_LT(relative_error(run(gemm_cpu(isa), w, x, compute), expected), 2e-6)
          << name(isa) << " " << name(w.dtype) << " " << name(compute) << " " << what;
    }
  }
}

TEST(Quantised, EveryIsaMatchesTheReference) {
  Random random(1);
  for (const DType stored : kStored) {
    for (int64_t k : {1, 31, 64, 100, 128, 200, 384, 1100, 2304}) {
      if (stored == DType::u8) k = (k + 31) / 32 * 32;
      for (const int64_t n : {1, 6, 131}) {
        const Quantised w(n, k, stored, random);
        for (const int64_t m : {1, 2, 5, 7, 20}) {
          expect_close(w.matrix, random.normal(m * k), fmt::format("m {} n {} k {}", m, n, k));
        }
      }
    }
  }
}

TEST(Quantised, RandomShapesWithStridedRowsFromTheMiddleOfABlock) {
  Random random(2);
  for (int i = 0; i < 40; ++i) {
    const DType stored = kStored[random.integer(0, 1)];
    const int64_t unit = stored == DType::u8 ? 32 : 1;
    const int64_t n = random.integer(1, 200), k = random.integer(1, 600 / unit) * unit;
    const int64_t first = stored == DType::u8 ? 0 : random.integer(0, 127);
    const Quantised w(n, k, stored, random, random.integer(0, 9), first);
    expect_close(w.matrix, random.normal(random.integer(1, 30) * k),
                 fmt::format("n {} k {} first {}", n, k, first));
  }
}

// Each code against a unit vector: nothing is added to it.
TEST(Quantised, EveryCodeOfE4M3) {
  std::vector<std::byte> codes(256);
  for (size_t i = 0; i < 256; ++i) codes[i] = static_cast<std::byte>(i);
  const std::vector<float> scales = {0.75f, 3.0f};
  const Matrix w(ConstView(codes.data(), DType::f8e4m3, {256, 1}), view(scales, {2, 1}));
  for (const Isa isa : available_isas()) {
    for (const DType compute : kComputed) {
      for (const size_t m : {size_t{1}, size_t{8}}) {
        const auto y = run(gemm_cpu(isa), w, std::vector<float>(m, 1.0f), compute);
        for (size_t i = 0; i < y.size(); ++i) {
          const float code = to_float(F8E4M3{static_cast<uint8_t>(i % 256)});
          EXPECT_EQ(std::isnan(y[i]), (i & 0x7F) == 0x7F) << i;
          if (!std::isnan(code)) {
            EXPECT_EQ(y[i], code * scales[i % 256 / 128]) << i;
          }
        }
      }
    }
  }
}

TEST(Quantised, EveryCodeOfE2M1WithEveryScale) {
  // Row s has scale 2^(s - 127); column k code k % 16.
  std::vector<std::byte> codes(256 * 16), scales(256);
  for (size_t s = 0; s < 256; ++s) {
    scales[s] = static_cast<std::byte>(s);
    for (size_t i = 0; i < 16; ++i) {
      codes[s * 16 + i] = static_cast<std::byte>((2 * i % 16) | (2 * i + 1) % 16 << 4);
    }
  }
  const Matrix w(ConstView(codes.data(), DType::u8, {256, 16}),
                 ConstView(scales.data(), DType::u8, {256, 1}));
  for (const Isa isa : available_isas()) {
    for (const DType compute : kComputed) {
      for (uint8_t k = 0; k < 32; ++k) {
        std::vector<float> x(32);
        x[k] = 1.0f;
        const auto y = run(gemm_cpu(isa), w, x, compute);
        for (size_t s = 2; s <= 252; ++s) {
          EXPECT_EQ(y[s], from_e2m1(k % 16) * from_e8m0(static_cast<uint8_t>(s)))
              << name(isa) << " " << name(compute) << " scale " << s << " code " << k % 16;
        }
        if (compute == DType::f32) {
          EXPECT_TRUE(std::isnan(y[255]));
        }
      }
    }
  }
}

TEST(Quantised, ARowAloneIsTheRowInABatch) {
  Random random(4);
  for (const DType stored : kStored) {
    for (const int64_t k : {64, 416, 2112}) {
      const Quantised w(150, k, stored, random);
      const auto x = random.normal(70 * k);
      for (const DType compute : kComputed) {
        for (const Isa isa : available_isas()) {
          const auto all = run(gemm_cpu(isa), w.matrix, x, compute);
          for (const int64_t m : {1, 2, 4, 6, 7, 33}) {
            const auto last = run(gemm_cpu(isa), w.matrix, {x.end() - m * k, x.end()}, compute, 1);
            EXPECT_EQ(last, std::vector<float>(all.end() - m * 150, all.end()))
                << name(isa) << " " << name(stored) << " " << name(compute) << " m " << m;
          }
        }
      }
    }
  }
}

TEST(Quantised, AColumnDoesNotDependOnTheWeightsAroundIt) {
  Random random(5);
  for (const DType stored : kStored) {
    const Quantised w(300, 224, stored, random, 3, stored == DType::u8 ? 0 : 40);
    const auto x = random.normal(9 * 224);
    for (const DType compute : kComputed) {
      for (const Isa isa : available_isas()) {
        const auto all = run(gemm_cpu(isa), w.matrix, x, compute);
        for (const int64_t n : {0, 1, 87, 88, 89, 215, 216, 299}) {
          const auto one = run(gemm_cpu(isa), w.matrix.rows(n, n + 1), x, compute, 1);
          for (size_t m = 0; m < 9; ++m) {
            EXPECT_EQ(one[m], all[m * 300 + static_cast<size_t>(n)]) << name(isa) << " n " << n;
          }
        }
      }
    }
  }
}

// Two matrices whose rows alternate, as some experts lie in a file.
TEST(Quantised, EverySecondRowIsAMatrix) {
  Random random(6);
  const Quantised both(20, 96, DType::u8, random);
  Matrix odd = both.matrix.rows(1, 20);
  odd.shape.dims[0] = odd.scales.shape.dims[0] = 10;
  odd.strides[0] *= 2;
  odd.scales.strides[0] *= 2;
  for (const size_t m : {size_t{1}, size_t{9}}) {
    const auto x = random.normal(static_cast<int64_t>(m) * 96);
    for (const Isa isa : available_isas()) {
      const auto all = run(gemm_cpu(isa), both.matrix, x, DType::bf16);
      const auto part = run(gemm_cpu(isa), odd, x, DType::bf16);
      for (size_t i = 0; i < part.size(); ++i) {
        EXPECT_EQ(part[i], all[i / 10 * 20 + i % 10 * 2 + 1]) << name(isa);
      }
    }
  }
}

TEST(Quantised, ANaNCodeStaysInItsColumn) {
  Random random(7);
  Quantised w(10, 300, DType::f8e4m3, random);
  w.codes[3 * 300 + 290] = std::byte{0xFF};
  for (const int64_t m : {1, 8}) {
    for (const DType compute : kComputed) {
      for (const Isa isa : available_isas()) {
        const auto y = run(gemm_cpu(isa), w.matrix, random.normal(m * 300), compute);
        for (size_t i = 0; i < y.size(); ++i) EXPECT_EQ(std::isnan(y[i]), i % 10 == 3) << i;
      }
    }
  }
}

TEST(Quantised, RoofCountsCodesAndScales) {
  Random random(8);
  const Quantised w(130, 200, DType::f8e4m3, random), four(6, 64, DType::u8, random);
  EXPECT_EQ(w.matrix.bytes(), 130 * 200 + 2 * 2 * 4);
  EXPECT_EQ(four.matrix.bytes(), 6 * 32 + 6 * 2);
  const std::vector<float> x(200);
  std::vector<float> y(130);
  const Roof work = roof(GemmParams{.x = view(x, {1, 200}), .w = w.matrix, .y = view(y, {1, 130})});
  EXPECT_EQ(work.bytes, 130 * 200 + 16 + 200 * 4 + 130 * 4);
}

}  // namespace
}  // namespace ashlar
