#include <algorithm>
#include <array>
#include <cmath>

#include "base/checked.h"
#include "kernels/moe/moe.h"

// Groups that are not picked leave the choice altogether. Published modelling code differs here:
// DeepSeek's own sets them to minus infinity, transformers' DeepseekV3MoE to zero. The two agree
// whenever the top_k best choices of the picked groups are positive, which scores plus bias of a
// trained router are; where they are not, zero would pick experts of a masked group.

namespace ashlar {
namespace {

constexpr int64_t kTokensPerTask = 64;

// The experts of one token; arrays, since a route must not allocate.
struct Choice {
  std::array<float, kMaxExperts> score;   // what weights are made of
  std::array<float, kMaxExperts> choice;  // what is compared
  std::array<bool, kMaxExperts> taken;
  std::array<bool, kMaxExperts> group_taken;
};

// What a comparison sees: NaN is below every number.
float rank(float value) { return std::isnan(value) ? -INFINITY : value; }

// The best of values[begin, end) that is not taken; ties and NaN go to the lower index. -1 if all
// are taken.
int64_t best(const float* values, const bool* taken, int64_t begin, int64_t end) {
  int64_t found = -1;
  for (int64_t i = begin; i < end; ++i) {
    if (taken[i]) continue;
    if (found < 0 || rank(values[i]) > rank(values[found])) found = i;
  }
  return found;
}

void set_scores(const RouteParams& p, const float* logits, int64_t n_experts, Choice& c) {
  if (p.score == RouterScore::sigmoid) {
    for (int64_t e = 0; e < n_experts; ++e) {
      c.score[static_cast<size_t>(e)] = 1.0f / (1.0f + std::exp(-logits[e]));
    }
  } else {
    float most = -INFINITY, sum = 0;
    for (int64_t e = 0; e < n_experts; ++e) most = std::max(most, rank(logits[e]));
    for (int64_t e = 0; e < n_experts; ++e) {
      sum += c.score[static_cast<size_t>(e)] = std::exp(logits[e] - most);
    }
    for (int64_t e = 0; e < n_experts; ++e) c.score[static_cast<size_t>(e)] /= sum;
  }
  for (int64_t e = 0; e < n_experts; ++e) {
    const auto i = static_cast<size_t>(e);
    c.choice[i] = c.score[i] + (p.correction_bias ? p.correction_bias[e] : 0.0f);
    c.taken[i] = false;
  }
}

// Takes every expert outside the topk_group best groups out of the choice.
void mask_groups(const RouteParams& p, int64_t n_experts, Choice& c) {
  const int64_t size = n_experts / p.n_group;
  std::array<float, kMaxExperts> sums;
  for (int64_t g = 0; g < p.n_group; ++g) {
    const int64_t first = best(c.choice.data(), c.taken.data(), g * size, (g + 1) * size);
    c.taken[static_cast<size_t>(first)] = true;
    const int64_t second = best(c.choice.data(), c.taken.data(), g * size, (g + 1) * size);
    c.taken[static_cast<size_t>(first)] = false;
    sums[static_cast<size_t>(g)] = c.choice[static_cast<size_t>(first)] +
                                   (second < 0 ? 0.0f : c.choice[static_cast<size_t>(second)]);
    c.group_taken[static_cast<size_t>(g)] = false;
  }
  for (int32_t i = 0; i < p.topk_group; ++i) {
    c.group_taken[static_cast<size_t>(best(sums.data(), c.group_taken.data(), 0, p.n_group))] =
        true;
  }
  for (int64_t e = 0; e < n_experts; ++e) {
    c.taken[static_cast<size_t>(e)] = !c.group_taken[static_cast<size_t>(e / size)];
  }
}

void route_token(const RouteParams& p, int64_t t, Choice& c) {
  const int64_t n_experts = p.logits.dim(1);
  set_scores(p, p.logits.row<float>(t), n_experts, c);
  if (p.n_group > 1) mask_groups(p, n_experts, c);
  int32_t* ids = p.ids.row<int32_t>(t);
  float* weights = p.weights.row<float>(t);
  for (int32_t k = 0; k < p.top_k; ++k) {
    const int64_t e = best(c.choice.data(), c.taken.data(), 0, n_experts);
    c.taken[static_cast<size_t>(e)] = true;
    ids[k] = static_cast<int32_t>(e);
  }
  std::sort(ids, ids + p.top_k);
  float sum = 0;
  for (int32_t k = 0; k < p.top_k; ++k) {
    sum += weights[k] = c.score[static_cast<size_t>(ids[k])];
  }
  const float divisor = p.normalize ? sum + 1e-20f : 1.0f;
  for (int32_t k = 0; k < p.top_k; ++k) weights[k] = weights[k] / divisor * p.scaling;
}

}  // namespace

void route(const RouteParams& p, Pool& pool) {
  const int64_t n_tokens = p.logits.dim(0), n_experts = p.logits.dim(1);
  CHECK(0 < n_experts && n_experts <= kMaxExperts, "{} experts", n_experts);
  CHECK(0 < p.n_group && n_experts % p.n_group == 0, "{} experts in {} groups", n_experts,
        p.n_group);
  CHECK(0 < p.topk_group && p.topk_group <= p.n_group, "{} of {} groups", p.topk_group, p.n_group);
  CHECK(0 < p.top_k && p.top_k <= n_experts / p.n_group * p.topk_group,
        "{} experts out of {} groups of {}", p.top_k, p.topk_group, n_experts / p.n_group);
  pool.each(ceil_div(n_tokens, kTokensPerTask), [&](int64_t task, int) {
    Choice choice;
    const int64_t end = std::min(n_tokens, (task + 1) * kTokensPerTask);
    for (int64_t t = task * kTokensPerTask; t < end; ++t) route_token(p, t, choice);
  });
}

}  // namespace ashlar
