#include <cstring>
#include <memory>

#include "kernels/bench.h"
#include "kernels/testing.h"
#include "tensor/buffer.h"

namespace ashlar {
namespace {

// 32 experts of 3 * 2048 * 768 bf16 weights: 288 MiB, and eight picked ones are 72 MiB, so that a
// step finds none of its weights in a cache.
constexpr int64_t kHidden = 2048, kIntermediate = 768, kExperts = 32, kTopK = 8;
constexpr int64_t kMatrixBytes = kHidden * kIntermediate * 2;

struct Weights {
  Buffer buffer;
  std::vector<ExpertWeights> experts;
  Weights() {
    auto memory = Buffer::host(kExperts * 3 * kMatrixBytes, "bench experts");
    CHECK(memory.has_value(), "{}", memory.error().text);
    buffer = std::move(*memory);
    uint64_t state = 1;
    for (size_t at = 0; at < buffer.bytes().size(); at += 8) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      // Either sign, magnitudes about 2^-7 to 2^-6.
      const uint64_t bits = (state & 0x80FF80FF80FF80FF) | 0x3C003C003C003C00;
      std::memcpy(buffer.data() + at, &bits, 8);
    }
    for (int64_t e = 0; e < kExperts; ++e) {
      const std::byte* data = buffer.data() + e * 3 * kMatrixBytes;
      experts.push_back(
          {.gate = ConstView(data, DType::bf16, {kIntermediate, kHidden}),
           .up = ConstView(data + kMatrixBytes, DType::bf16, {kIntermediate, kHidden}),
           .down = ConstView(data + 2 * kMatrixBytes, DType::bf16, {kHidden, kIntermediate})});
    }
  }
};

struct Data {
  std::shared_ptr<Weights> weights;
  std::vector<float> x, y, mix;
  std::vector<int32_t> ids;
  Buffer workspace;
  ExpertsParams params;

  // The experts move on by kTopK, so that a run's are not the last run's.
  void advance() {
    for (int64_t t = 0; t < params.x.dim(0); ++t) {
      int32_t* row = ids.data() + t * kTopK;
      for (int64_t k = 0; k < kTopK; ++k) row[k] = (row[k] + kTopK) % kExperts;
    }
  }
};

}  // namespace

std::vector<BenchCase> experts_bench(const Ops& ops, Pool& pool) {
  auto weights = std::make_shared<Weights>();
  Random random(1);
  std::vector<BenchCase> cases;
  for (const int64_t n_tokens : {1, 4, 16, 256}) {
    auto data = std::make_shared<Data>();
    data->weights = weights;
    data->x = random.normal(n_tokens * kHidden);
    data->y.resize(data->x.size());
    data->mix.assign(static_cast<size_t>(n_tokens * kTopK), 1.0f / kTopK);
    for (int64_t t = 0; t < n_tokens; ++t) {
      for (int64_t k = 0; k < kTopK; ++k) {
        data->ids.push_back(static_cast<int32_t>((t * 5 + k * 3) % kExperts));
      }
    }
    const int64_t bytes =
        experts_workspace_bytes(n_tokens, kHidden, kIntermediate, kTopK, kExperts);
    data->workspace = std::move(*Buffer::host(static_cast<size_t>(bytes), "bench workspace"));
    data->params = {.x = view(std::as_const(data->x), {n_tokens, kHidden}),
                    .ids = view(std::as_const(data->ids), {n_tokens, kTopK}),
                    .weights = view(std::as_const(data->mix), {n_tokens, kTopK}),
                    .experts = weights->experts,
                    .y = view(data->y, {n_tokens, kHidden}),
                    .workspace = data->workspace.bytes()};
    cases.push_back({.op = "experts",
                     .shape = fmt::format("T={} H={} I={} E={} k={} bfloat16", n_tokens, kHidden,
                                          kIntermediate, kExperts, kTopK),
                     .roof = roof(data->params),
                     .bf16 = true,
                     .run = [&ops, &pool, data] {
                       ops.experts(data->params, pool);
                       data->advance();
                     }});
  }
  return cases;
}

}  // namespace ashlar
