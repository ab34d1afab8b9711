#include "kernels/moe/moe.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "kernels/gemm/quantised_testing.h"
#include "kernels/testing.h"
#include "tensor/buffer.h"

namespace ashlar {
namespace {

struct Routed {
  std::vector<int32_t> ids;
  std::vector<float> weights;
};

Routed run(RouteParams p, const std::vector<float>& logits, int64_t n_tokens) {
  Pool pool(2);
  const int64_t n_experts = static_cast<int64_t>(logits.size()) / n_tokens;
  Routed out;
  out.ids.assign(static_cast<size_t>(n_tokens * p.top_k), -1);
  out.weights = poisoned(out.ids.size());
  p.logits = view(logits, {n_tokens, n_experts});
  p.ids = view(out.ids, {n_tokens, p.top_k});
  p.weights = view(out.weights, {n_tokens, p.top_k});
  route(p, pool);
  return out;
}

float sigmoid(float x) { return 1.0f / (1.0f + std::exp(-x)); }

TEST(Route, SigmoidPicksByBiasedScoreAndWeighsByPlainScore) {
  const std::vector<float> logits = {0.0f, 2.0f, 1.0f, -1.0f};
  const std::vector<float> bias = {0.0f, -1.0f, 0.0f, 0.5f};
  const Routed routed =
      run({.correction_bias = bias.data(), .top_k = 2, .scaling = 2.5f}, logits, 1);
  EXPECT_EQ(routed.ids, (std::vector<int32_t>{2, 3}));
  const float sum = sigmoid(1.0f) + sigmoid(-1.0f);
  EXPECT_FLOAT_EQ(routed.weights[0], sigmoid(1.0f) / sum * 2.5f);
  EXPECT_FLOAT_EQ(routed.weights[1], sigmoid(-1.0f) / sum * 2.5f);
}

TEST(Route, SoftmaxWithAndWithoutNormalization) {
  const std::vector<float> logits = {100.0f, 101.0f, 99.0f, 90.0f};
  RouteParams p = {.score = RouterScore::softmax, .top_k = 2, .normalize = false};
  const Routed plain = run(p, logits, 1);
  const double all = std::exp(-1.0) + 1 + std::exp(-2.0) + std::exp(-11.0);
  EXPECT_EQ(plain.ids, (std::vector<int32_t>{0, 1}));
  EXPECT_NEAR(plain.weights[0], std::exp(-1.0) / all, 1e-6);
  EXPECT_NEAR(plain.weights[1], 1 / all, 1e-6);
  p.normalize = true;
  const Routed normal = run(p, logits, 1);
  EXPECT_NEAR(normal.weights[0] + normal.weights[1], 1.0, 1e-6);
  EXPECT_NEAR(normal.weights[1] / normal.weights[0], std::exp(1.0), 1e-5);
}

TEST(Route, GroupsAreChosenByTheirTwoBest) {
  // Group 1 has the best single expert, groups 0 and 2 the best pairs.
  const std::vector<float> logits = {1.0f, 1.0f, 3.0f, -9.0f, 0.9f, 0.9f, 0.0f, 0.0f};
  const Routed routed = run({.top_k = 3, .n_group = 4, .topk_group = 2}, logits, 1);
  EXPECT_EQ(routed.ids, (std::vector<int32_t>{0, 1, 4}));
}

TEST(Route, TiesGoToTheLowerExpert) {
  const std::vector<float> logits(6, 0.25f);
  EXPECT_EQ(run({.top_k = 3}, logits, 1).ids, (std::vector<int32_t>{0, 1, 2}));
  EXPECT_EQ(run({.top_k = 2, .n_group = 3, .topk_group = 1}, logits, 1).ids,
            (std::vector<int32_t>{0, 1}));
}

// The steps of the header, in plain words and double precision.
std::vector<int32_t> expected_ids(const RouteParams& p, const float* logits, int64_t n_experts) {
  std::vector<double> choice;
  for (int64_t e = 0; e < n_experts; ++e) {
    choice.push_back(static_cast<double>(sigmoid(logits[e])) + p.correction_bias[e]);
  }
  const int64_t size = n_experts / p.n_group;
  std::vector<std::pair<double, int64_t>> groups;
  for (int64_t g = 0; g < p.n_group; ++g) {
    std::vector<double> of(choice.begin() + g * size, choice.begin() + (g + 1) * size);
    std::ranges::sort(of, std::greater());
    groups.emplace_back(-(of[0] + (size > 1 ? of[1] : 0)), g);
  }
  std::ranges::sort(groups);
  std::vector<std::pair<double, int32_t>> left;
  for (int32_t i = 0; i < p.topk_group; ++i) {
    const int64_t g = groups[static_cast<size_t>(i)].second;
    for (int64_t e = g * size; e < (g + 1) * size; ++e) {
      left.emplace_back(-choice[static_cast<size_t>(e)], static_cast<int32_t>(e));
    }
  }
  std::ranges::sort(left);
  std::vector<int32_t> ids;
  for (int32_t i = 0; i < p.top_k; ++i) ids.push_back(left[static_cast<size_t>(i)].second);
  std::ranges::sort(ids);
  return ids;
}

TEST(Route, RandomRoutersFollowTheDefinition) {
  Random random(1);
  for (int i = 0; i < 100; ++i) {
    RouteParams p;
    p.n_group = static_cast<int32_t>(random.integer(1, 8));
    const int64_t n_experts = p.n_group * random.integer(1, 20);
    p.topk_group = static_cast<int32_t>(random.integer(1, p.n_group));
    p.top_k = static_cast<int32_t>(
        random.integer(1, std::min<int64_t>(8, n_experts / p.n_group * p.topk_group)));
    const auto bias = random.normal(n_experts, 0.1f);
    p.correction_bias = bias.data();
    const int64_t n_tokens = random.integer(1, 130);
    const auto logits = random.normal(n_tokens * n_experts);
    const Routed routed = run(p, logits, n_tokens);
    for (int64_t t = 0; t < n_tokens; ++t) {
      const auto* ids = routed.ids.data() + t * p.top_k;
      EXPECT_EQ(std::vector<int32_t>(ids, ids + p.top_k),
                expected_ids(p, logits.data() + t * n_experts, n_experts));
    }
  }
}

TEST(Route, NaNPicksNoExpertTwice) {
  for (const RouterScore score : {RouterScore::sigmoid, RouterScore::softmax}) {
    for (const int32_t groups : {1, 4}) {
      std::vector<float> logits(64, NAN);
      logits[5] = 1.0f, logits[6] = INFINITY, logits[9] = -INFINITY;
      const RouteParams p = {.score = score, .top_k = 4, .n_group = groups, .topk_group = 1};
      const Routed routed = run(p, logits, 4);
      for (int64_t t = 0; t < 4; ++t) {
        const auto* ids = routed.ids.data() + t * 4;
        EXPECT_EQ(std::set<int32_t>(ids, ids + 4).size(), 4u);
        EXPECT_TRUE(std::is_sorted(ids, ids + 4));
        EXPECT_TRUE(ids[0] >= 0 && ids[3] < 16);
      }
    }
  }
}

// Experts with random weights and routes, and NaN in whatever nobody should use.
struct Layer {
  int64_t n_tokens, hidden, intermediate, n_experts, top_k;
  DType w_type;
  std::vector<float> x, start, weights, y;
  std::vector<int32_t> ids;
  std::vector<std::vector<std::byte>> memory;
  std::vector<ExpertWeights> experts;
  Gating gating;
  Buffer workspace;

  Layer(Shape sizes, int64_t k, DType w, Random& random)
      : n_tokens(sizes[0]),
        hidden(sizes[1]),
        intermediate(sizes[2]),
        n_experts(sizes[3]),
        top_k(k),
        w_type(w) {
    x = random.normal(n_tokens * hidden);
    start = random.normal(n_tokens * hidden);
    weights = random.normal(n_tokens * top_k);
    for (int64_t t = 0; t < n_tokens; ++t) {
      std::set<int32_t> picked;
      while (static_cast<int64_t>(picked.size()) < top_k) {
        picked.insert(static_cast<int32_t>(random.integer(0, n_experts - 1)));
      }
      ids.insert(ids.end(), picked.begin(), picked.end());
    }
    for (int64_t e = 0; e < n_experts; ++e) {
      experts.push_back({.gate = matrix({intermediate, hidden}, random),
                         .up = matrix({intermediate, hidden}, random),
                         .down = matrix({hidden, intermediate}, random)});
    }
    const int64_t bytes = experts_workspace_bytes(n_tokens, hidden, intermediate, top_k, n_experts);
    workspace = *Buffer::host(static_cast<size_t>(bytes), "workspace");
  }

  ConstView matrix(Shape shape, Random& random) {
    const auto values =
        random.normal(shape.elements(), 1.0f / std::sqrt(static_cast<float>(shape[1])));
    std::vector<std::byte> bytes(static_cast<size_t>(shape.elements() * size_of(w_type)));
    const auto copy = [&](const auto& converted) {
      std::memcpy(bytes.data(), converted.data(), bytes.size());
    };
    if (w_type == DType::f32) copy(values);
    if (w_type == DType::bf16) copy(to_bf16(values));
    if (w_type == DType::f16) copy(to_f16(values));
    memory.push_back(std::move(bytes));
    return ConstView(memory.back().data(), w_type, shape);
  }

  std::vector<float> run(ExpertsFn fn, DType compute, int n_threads, int64_t begin, int64_t end) {
    std::ranges::fill(workspace.bytes(), std::byte{0xFF});
    y = start;
    const ExpertsParams p = {
        .x = view(std::as_const(x), {n_tokens, hidden}).rows(begin, end),
        .ids = view(std::as_const(ids), {n_tokens, top_k}).rows(begin, end),
        .weights = view(std::as_const(weights), {n_tokens, top_k}).rows(begin, end),
        .experts = experts,
        .y = view(y, {n_tokens, hidden}).rows(begin, end),
        .compute = compute,
        .gating = gating,
        .workspace = workspace.bytes()};
    Pool pool(n_threads);
    fn(p, pool);
    return {y.begin() + begin * hidden, y.begin() + end * hidden};
  }
  std::vector<float> run(ExpertsFn fn, DType compute, int n_threads = 2) {
    return run(fn, compute, n_threads, 0, n_tokens);
  }
};

TEST(Experts, EveryIsaMatchesTheReference) {
  Random random(2);
  const std::pair<DType, DType> kinds[] = {{DType::bf16, DType::bf16},
                                           {DType::bf16, DType::f32},
                                           {DType::f16, DType::f32},
                                           {DType::f32, DType::f32}};
  for (const auto& [w, compute] : kinds) {
    for (const Shape& sizes :
         {Shape{1, 64, 96, 8}, Shape{5, 33, 70, 4}, Shape{40, 128, 64, 6}, Shape{3, 5, 1, 3}}) {
      Layer layer(sizes, 2, w, random);
      const auto expected = layer.run(experts_ref, compute);
      for (const Isa isa : available_isas()) {
        const auto actual = layer.run(experts_cpu(isa), compute);
        // In bf16 a sum one rounding off may round the next factor the other way: 2^-8 of it.
        EXPECT_LT(relative_error(actual, expected), compute == DType::bf16 ? 5e-4 : 3e-6)
            << name(isa) << " " << sizes.text() << " " << name(w) << " " << name(compute);
      }
    }
  }
}

// Experts of quantised matrices, gate and up in alternate rows, with biases.
struct Interleaved {
  Layer layer;
  std::vector<Quantised> stored;
  std::vector<std::vector<float>> biases;
  std::vector<Bf16> gate_up_bias;

  Interleaved(Shape sizes, DType w, Random& random) : layer(sizes, 2, DType::bf16, random) {
    const int64_t hidden = layer.hidden, inner = layer.intermediate;
    stored.reserve(layer.experts.size() * 2);
    gate_up_bias = to_bf16(random.normal(2 * inner));
    for (ExpertWeights& expert : layer.experts) {
      const Matrix& both = stored.emplace_back(2 * inner, hidden, w, random).matrix;
      expert.gate = w == DType::u8 ? alternate(both) : both.rows(0, inner);
      expert.up = w == DType::u8 ? alternate(both.rows(1, 2 * inner)) : both.rows(inner, 2 * inner);
      expert.down = stored.emplace_back(hidden, inner, w, random).matrix;
      biases.push_back(random.normal(hidden));
      expert.down_bias = view(std::as_const(biases.back()), {hidden});
      expert.gate_bias =
          ConstView(reinterpret_cast<const std::byte*>(gate_up_bias.data()), DType::bf16, {inner});
      expert.gate_bias.strides[0] = 2;
      expert.up_bias = expert.gate_bias;
      expert.up_bias.data += size_of(DType::bf16);
    }
  }
  Matrix alternate(Matrix rows) const {
    rows.shape.dims[0] = rows.scales.shape.dims[0] = layer.intermediate;
    rows.strides[0] *= 2, rows.scales.strides[0] *= 2;
    return rows;
  }
};

TEST(Experts, QuantisedMatricesBiasesAndEveryGating) {
  Random random(12);
  for (const DType w : {DType::f8e4m3, DType::u8}) {
    for (const Shape& sizes : {Shape{1, 160, 96, 8}, Shape{5, 96, 224, 3}, Shape{40, 64, 160, 4}}) {
      Interleaved experts(sizes, w, random);
      for (const GateKind kind :
           {GateKind::silu, GateKind::gelu, GateKind::clamped, GateKind::sigmoid}) {
        experts.layer.gating = {.kind = kind};
        for (const DType compute : {DType::bf16, DType::f32}) {
          const auto expected = experts.layer.run(experts_ref, compute);
          for (const Isa isa : available_isas()) {
            const auto actual = experts.layer.run(experts_cpu(isa), compute);
            EXPECT_LT(relative_error(actual, expected), compute == DType::bf16 ? 5e-4 : 3e-6)
                << name(isa) << " " << sizes.text() << " " << name(w) << " " << name(compute);
          }
        }
      }
    }
  }
}

TEST(Experts, AQuantisedTokenAloneIsTheTokenInABatch) {
  Random random(13);
  for (const DType w : {DType::f8e4m3, DType::u8}) {
    Interleaved experts({60, 96, 160, 3}, w, random);
    for (const Isa isa : available_isas()) {
      const auto together = experts.layer.run(experts_cpu(isa), DType::bf16);
      for (const auto& [begin, end] : {std::pair{0, 1}, {7, 9}, {20, 60}}) {
        EXPECT_EQ(experts.layer.run(experts_cpu(isa), DType::bf16, 1, begin, end),
                  std::vector<float>(together.begin() + begin * 96, together.begin() + end * 96))
            << name(isa) << " " << name(w) << " " << begin << ".." << end;
      }
    }
  }
}

TEST(Experts, ATokenAloneIsTheTokenInABatch) {
  Random random(3);
  // More tokens than a round, and more rows of an expert than a task takes at a time.
  Layer layer({530, 40, 72, 3}, 2, DType::bf16, random);
  for (const Isa isa : available_isas()) {
    for (const DType compute : {DType::bf16, DType::f32}) {
      const auto together = layer.run(experts_cpu(isa), compute);
      for (const auto& [begin, end] : {std::pair{0, 1}, {7, 9}, {100, 130}, {525, 530}, {1, 530}}) {
        const auto part = layer.run(experts_cpu(isa), compute, 1, begin, end);
        EXPECT_EQ(part,
                  std::vector<float>(together.begin() + begin * 40, together.begin() + end * 40))
            << name(isa) << " " << begin << ".." << end;
      }
    }
  }
}

TEST(Experts, TheNumberOfThreadsDoesNotMatter) {
  Random random(4);
  Layer layer({9, 130, 200, 16}, 4, DType::bf16, random);
  for (const Isa isa : available_isas()) {
    const auto one = layer.run(experts_cpu(isa), DType::bf16, 1);
    EXPECT_EQ(layer.run(experts_cpu(isa), DType::bf16, 2), one) << name(isa);
    EXPECT_EQ(layer.run(experts_cpu(isa), DType::bf16, 3), one) << name(isa);
  }
}

TEST(Experts, ExpertsNobodyPickedAreNotRead) {
  Random random(5);
  Layer layer({2, 16, 16, 8}, 2, DType::f32, random);
  for (int32_t e = 0; e < 8; ++e) {
    if (std::ranges::find(layer.ids, e) != layer.ids.end()) continue;
    layer.experts[static_cast<size_t>(e)].gate.data = nullptr;
    layer.experts[static_cast<size_t>(e)].up.data = nullptr;
    layer.experts[static_cast<size_t>(e)].down.data = nullptr;
  }
  for (const Isa isa : available_isas()) {
    for (const float value : layer.run(experts_cpu(isa), DType::f32)) {
      EXPECT_TRUE(std::isfinite(value));
    }
  }
}

TEST(Experts, LargeGatesAndNaNBehaveAsSiluDoes) {
  Random random(6);
  Layer layer({3, 8, 8, 2}, 1, DType::f32, random);
  for (float& value : layer.x) value *= 1000.0f;
  const auto expected = layer.run(experts_ref, DType::f32);
  for (const Isa isa : available_isas()) {
    EXPECT_LT(relative_error(layer.run(experts_cpu(isa), DType::f32), expected), 3e-6);
  }
  layer.x[0] = NAN;
  for (const Isa isa : available_isas()) {
    const auto y = layer.run(experts_cpu(isa), DType::f32);
    for (size_t i = 0; i < y.size(); ++i) EXPECT_EQ(std::isnan(y[i]), i < 8) << name(isa);
  }
}

TEST(Experts, NoTokensAreAllowed) {
  Random random(7);
  Layer layer({1, 8, 8, 2}, 1, DType::bf16, random);
  for (const Isa isa : available_isas()) {
    EXPECT_TRUE(layer.run(experts_cpu(isa), DType::bf16, 2, 0, 0).empty());
    EXPECT_EQ(layer.y, layer.start);
  }
}

TEST(Experts, RoofCountsPickedExpertsOnce) {
  Random random(8);
  Layer layer({2, 4, 3, 5}, 1, DType::bf16, random);
  layer.ids = {3, 3};
  const Roof work = roof(ExpertsParams{.x = view(std::as_const(layer.x), {2, 4}),
                                       .ids = view(std::as_const(layer.ids), {2, 1}),
                                       .experts = layer.experts});
  EXPECT_EQ(work.bytes, 3 * 12 * 2 + 8 * 12);
  EXPECT_EQ(work.flops, 2 * 3 * 2 * 12);
}

}  // namespace
}  // namespace ashlar
