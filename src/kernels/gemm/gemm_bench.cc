#include <cstring>
#include <memory>

#include "base/checked.h"
#include "kernels/bench.h"
#include "kernels/testing.h"
#include "tensor/buffer.h"

namespace ashlar {
namespace {

// One set of weights for all cases, larger than any cache; a case takes the next stretch of it each
// time it runs, as a model's layers follow each other.
constexpr int64_t kWeightBytes = int64_t{320} << 20;

struct Weights {
  Buffer buffer;
  Weights() {
    auto memory = Buffer::host(kWeightBytes, "bench weights");
    CHECK(memory.has_value(), "{}", memory.error().text);
    buffer = std::move(*memory);
    uint64_t state = 1;
    for (int64_t at = 0; at < kWeightBytes; at += 8) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      // Either sign and the upper exponent bits of 2^-7: the same bits are sane bf16, f16 and f32.
      const uint64_t bits = (state & 0x80FF80FF80FF80FF) | 0x3C003C003C003C00;
      std::memcpy(buffer.data() + at, &bits, 8);
    }
  }
};

struct Case {
  int64_t m, n, k;
  DType w, compute;
};

struct Data {
  std::shared_ptr<Weights> weights;
  std::vector<float> x, y, e4m3_scales;
  std::vector<std::byte> mxfp4_scales;
  std::vector<std::byte> workspace;
  GemmParams params;
  int64_t offset_bytes = 0;

  // The next stretch of weights.
  void advance() {
    const int64_t bytes = params.w.ConstView::bytes();
    if (offset_bytes + bytes > kWeightBytes) offset_bytes = 0;
    params.w.data = weights->buffer.data() + offset_bytes;
    offset_bytes += round_up(bytes, 64);
  }
};

// Codes come from the stretch of weights; scales are few and stay.
Matrix matrix_for(const Case& c, Data& data) {
  if (c.w == DType::u8) {
    data.mxfp4_scales.assign(static_cast<size_t>(c.n * c.k / kScaleGroup), std::byte{120});
    return Matrix(ConstView(nullptr, c.w, {c.n, c.k / 2}),
                  ConstView(data.mxfp4_scales.data(), DType::u8, {c.n, c.k / kScaleGroup}));
  }
  const ConstView values(nullptr, c.w, {c.n, c.k});
  if (c.w != DType::f8e4m3) return values;
  const int64_t rows = ceil_div(c.n, kScaleBlock), columns = ceil_div(c.k, kScaleBlock);
  data.e4m3_scales.assign(static_cast<size_t>(rows * columns), 0.01f);
  return Matrix(values, view(std::as_const(data.e4m3_scales), {rows, columns}));
}

std::shared_ptr<Data> data_for(const Case& c, const std::shared_ptr<Weights>& weights,
                               Random& random) {
  auto data = std::make_shared<Data>();
  data->weights = weights;
  data->x = random.normal(c.m * c.k);
  data->y.resize(static_cast<size_t>(c.m * c.n));
  data->workspace.resize(static_cast<size_t>(gemm_workspace_bytes(c.m, c.k) + 64));
  auto start = reinterpret_cast<uintptr_t>(data->workspace.data());
  start = (64 - start % 64) % 64;
  data->params = {.x = view(std::as_const(data->x), {c.m, c.k}),
                  .w = matrix_for(c, *data),
                  .y = view(data->y, {c.m, c.n}),
                  .compute = c.compute,
                  .workspace = std::span(data->workspace).subspan(start)};
  data->advance();
  return data;
}

}  // namespace

std::vector<BenchCase> gemm_bench(const Ops& ops, Pool& pool) {
  constexpr DType kBf16 = DType::bf16, kF16 = DType::f16, kF32 = DType::f32;
  constexpr DType kE4M3 = DType::f8e4m3, kMxfp4 = DType::u8;
  const Case list[] = {{1, 4096, 4096, kBf16, kBf16},   {1, 1024, 3072, kBf16, kBf16},
                       {1, 3072, 1024, kBf16, kBf16},   {1, 151936, 1024, kBf16, kBf16},
                       {2, 4096, 4096, kBf16, kBf16},   {4, 4096, 4096, kBf16, kBf16},
                       {8, 4096, 4096, kBf16, kBf16},   {32, 4096, 4096, kBf16, kBf16},
                       {256, 4096, 4096, kBf16, kBf16}, {512, 4096, 4096, kBf16, kBf16},
                       {512, 3072, 1024, kBf16, kBf16}, {512, 1024, 3072, kBf16, kBf16},
                       {1, 4096, 4096, kBf16, kF32},    {256, 4096, 4096, kBf16, kF32},
                       {1, 4096, 4096, kF16, kF32},     {256, 4096, 4096, kF16, kF32},
                       {1, 4096, 4096, kF32, kF32},     {256, 4096, 4096, kF32, kF32},
                       {1, 2048, 2048, kE4M3, kBf16},   {1, 4096, 4096, kE4M3, kBf16},
                       {1, 4096, 11008, kE4M3, kBf16},  {1, 11008, 4096, kE4M3, kBf16},
                       {4, 4096, 4096, kE4M3, kBf16},   {32, 4096, 4096, kE4M3, kBf16},
                       {512, 4096, 4096, kE4M3, kBf16}, {512, 3072, 1024, kE4M3, kBf16},
                       {1, 4096, 4096, kE4M3, kF32},    {256, 4096, 4096, kE4M3, kF32},
                       {1, 5760, 2880, kMxfp4, kBf16},  {4, 5760, 2880, kMxfp4, kBf16},
                       {512, 5760, 2880, kMxfp4, kBf16}};
  auto weights = std::make_shared<Weights>();
  Random random(1);
  std::vector<BenchCase> cases;
  for (const Case& c : list) {
    auto data = data_for(c, weights, random);
    cases.push_back(
        {.op = "gemm",
         .shape = fmt::format("M={} N={} K={} w={} {}", c.m, c.n, c.k, name(c.w), name(c.compute)),
         .roof = roof(data->params),
         .bf16 = c.compute == kBf16,
         .run = [&ops, &pool, data] {
           ops.gemm(data->params, pool);
           data->advance();
         }});
  }
  return cases;
}

}  // namespace ashlar
