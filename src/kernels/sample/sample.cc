#include "kernels/sample/sample.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/exp.h"

// The vocabulary is walked in blocks by loops that compilers vectorise. There is one body for all
// instruction sets: the same logits and seed give the same token under each.

namespace ashlar {
namespace {

using Candidate = std::pair<float, int32_t>;  // a logit or a weight, and whose it is
constexpr float kNothing = -std::numeric_limits<float>::infinity();
constexpr size_t kBlock = 256;
constexpr size_t kLanes = 16;

// The largest number; NaNs are passed over, and -infinity answers when there is nothing else.
float largest(std::span<const float> x) {
  float best[kLanes];
  std::fill(best, best + kLanes, kNothing);
  size_t i = 0;
  for (; i + kLanes <= x.size(); i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      const float value = x[i + lane];
      best[lane] = value > best[lane] ? value : best[lane];
    }
  }
  for (; i < x.size(); ++i) best[0] = x[i] > best[0] ? x[i] : best[0];
  return *std::max_element(best, best + kLanes);
}

// Calls fn(begin, block) for the row's blocks in order, until fn answers false.
template <class Fn>
void each_block(std::span<const float> row, Fn&& fn) {
  for (size_t begin = 0; begin < row.size(); begin += kBlock) {
    if (!fn(begin, row.subspan(begin, std::min(kBlock, row.size() - begin)))) return;
  }
}

struct Peak {
  float logit = kNothing;
  int32_t token = -1;  // -1: the row has no finite logit
};

Peak find_peak(std::span<const float> logits) {
  Peak peak;
  size_t at = 0;
  each_block(logits, [&](size_t begin, std::span<const float> block) {
    const float best = largest(block);
    if (best > peak.logit) peak.logit = best, at = begin;
    return true;
  });
  if (peak.logit == kNothing) return peak;
  if (std::isinf(peak.logit) &&
      std::none_of(logits.begin(), logits.end(), [](float x) { return std::isfinite(x); })) {
    return peak;
  }
  while (logits[at] != peak.logit) ++at;
  peak.token = static_cast<int32_t>(at);
  return peak;
}

// A logit's weight is its probability relative to the peak's: exp((logit - peak) / temperature).
class Weights {
 public:
  Weights(float peak, float temperature)
      : peak_(peak),
        // A temperature below the normal floats would give infinity, and 0 * infinity at the peak.
        inverse_(std::min(1.0f / temperature, std::numeric_limits<float>::max())) {}

  float operator()(float logit) const {
    const float weight = exp_not_positive((logit - peak_) * inverse_);
    // The peak's own is 1 even where it is infinite and the difference is no number.
    return keep_if(logit != peak_, weight) + keep_if(logit == peak_, 1.0f);
  }

  // Weights of a block, those below `least` as 0, and their sum.
  double block(std::span<const float> logits, float least, float* out) const {
    for (size_t i = 0; i < logits.size(); ++i) {
      const float weight = (*this)(logits[i]);
      out[i] = keep_if(weight >= least, weight);
    }
    std::fill(out + logits.size(), out + kBlock, 0.0f);
    float sums[kLanes] = {};
    for (size_t i = 0; i < kBlock; i += kLanes) {
      for (size_t lane = 0; lane < kLanes; ++lane) sums[lane] += out[i + lane];
    }
    double sum = 0;
    for (const float part : sums) sum += part;
    return sum;
  }

  double total(std::span<const float> logits, float least) const {
    double sum = 0;
    each_block(logits, [&](size_t, std::span<const float> part) {
      float scratch[kBlock];
      sum += block(part, least, scratch);
      return true;
    });
    return sum;
  }

 private:
  float peak_;
  float inverse_;
};

// The output function of splitmix64 (Steele, Lea & Flood 2014).
uint64_t mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

// Uniform in [0, 1): the position-th number of the stream that starts at the mixed seed, so that
// neighbouring seeds do not walk the same stream some steps apart.
double uniform(uint64_t seed, int64_t position) {
  constexpr uint64_t kStep = 0x9E3779B97F4A7C15u;
  const uint64_t state = mix(seed + kStep) + (static_cast<uint64_t>(position) + 1) * kStep;
  return static_cast<double>(mix(state) >> 11) * 0x1p-53;
}

bool better(const Candidate& a, const Candidate& b) {
  return a.first != b.first ? a.first > b.first : a.second < b.second;
}

// The k best logits, in no order. The buffer fills to 2k, is cut to the k best, and from then on
// takes only what beats the worst of them: most blocks are passed over whole.
void keep_best(std::span<const float> logits, size_t k, std::vector<Candidate>* out) {
  out->clear();
  float worst = kNothing;
  const auto cut = [&] {
    const auto kth = out->begin() + static_cast<std::ptrdiff_t>(k - 1);
    std::nth_element(out->begin(), kth, out->end(), better);
    worst = kth->first;
    out->resize(k);
  };
  each_block(logits, [&](size_t begin, std::span<const float> block) {
    if (!(largest(block) > worst)) return true;
    for (size_t i = 0; i < block.size(); ++i) {
      if (!(block[i] > worst)) continue;
      out->emplace_back(block[i], static_cast<int32_t>(begin + i));
      if (out->size() == 2 * k) cut();
    }
    return true;
  });
  if (out->size() > k) cut();
}

// The tokens that can be in the smallest set of mass top_p, as weights. What weighs less than an
// even share of the mass outside that set cannot: all such tokens together weigh less than what is
// to be left out.
void keep_heavy(std::span<const float> logits, const Weights& weights, float top_p, double total,
                std::vector<Candidate>* out) {
  const double even = (1.0 - top_p) * total / static_cast<double>(logits.size());
  const auto share = std::max(static_cast<float>(even), std::numeric_limits<float>::min());
  out->clear();
  each_block(logits, [&](size_t begin, std::span<const float> part) {
    float block[kBlock];
    if (weights.block(part, share, block) == 0) return true;
    for (size_t i = 0; i < part.size(); ++i) {
      if (block[i] > 0) out->emplace_back(block[i], static_cast<int32_t>(begin + i));
    }
    return true;
  });
}

// Moves the smallest set of at least `mass` to the front, heaviest tokens first in it or not, and
// returns its size: halves what is undecided, as selection does, since sorting a flat row of a
// large vocabulary takes longer than everything else here.
size_t select_mass(std::span<Candidate> candidates, double mass) {
  size_t begin = 0, end = candidates.size();
  while (end - begin > 1) {
    const size_t middle = begin + (end - begin) / 2;
    const auto at = [&](size_t i) { return candidates.begin() + static_cast<std::ptrdiff_t>(i); };
    std::nth_element(at(begin), at(middle), at(end), better);
    double head = 0;
    for (size_t i = begin; i < middle; ++i) head += candidates[i].first;
    if (head >= mass) {
      end = middle;
    } else {
      mass -= head;
      begin = middle;
    }
  }
  return end;
}

// Draws from weights that together are `total`: of the smallest set that holds top_p of it, what
// is at least min_p, and of that one token. `point` in [0, 1).
int32_t draw(std::span<Candidate> candidates, double total, const Sampling& sampling,
             double point) {
  if (sampling.top_p < 1) {
    candidates = candidates.first(select_mass(candidates, sampling.top_p * total));
  }
  const auto kept = [&](const Candidate& candidate) {
    return candidate.first > 0 && candidate.first >= sampling.min_p;
  };
  double left = 0;
  for (const Candidate& candidate : candidates) left += kept(candidate) ? candidate.first : 0;
  left *= point;
  int32_t token = -1;
  for (const Candidate& candidate : candidates) {
    if (!kept(candidate)) continue;
    token = candidate.second;
    if (left < candidate.first) break;
    left -= candidate.first;
  }
  return token;
}

// The same with neither top_k nor top_p: no set to order, so the row is walked in place, first for
// its sum, then for the block that holds the point.
int32_t draw_from_row(std::span<const float> logits, const Weights& weights, float min_p,
                      double point) {
  float block[kBlock];
  double left = point * weights.total(logits, min_p);
  // Where rounding leaves the point past the end, the last block with any weight answers.
  size_t at = 0;
  double left_there = 0;
  each_block(logits, [&](size_t begin, std::span<const float> part) {
    const double sum = weights.block(part, min_p, block);
    if (sum > 0) at = begin, left_there = left;
    left -= sum;
    return left >= 0;
  });
  const auto part = logits.subspan(at, std::min(kBlock, logits.size() - at));
  weights.block(part, min_p, block);
  int32_t token = -1;
  for (size_t i = 0; i < part.size(); ++i) {
    if (block[i] == 0) continue;
    token = static_cast<int32_t>(at + i);
    if (left_there < block[i]) break;
    left_there -= block[i];
  }
  return token;
}

}  // namespace

Status validate(const Sampling& s) {
  if (!(s.temperature >= 0 && std::isfinite(s.temperature))) {
    return invalid("temperature {}: must be 0 (greedy) or a positive number", s.temperature);
  }
  if (s.top_k < 0) return invalid("top_k {}: must be 0 (all tokens) or more", s.top_k);
  if (!(s.top_p > 0 && s.top_p <= 1)) {
    return invalid("top_p {}: must be above 0 and at most 1 (all tokens)", s.top_p);
  }
  if (!(s.min_p >= 0 && s.min_p <= 1)) {
    return invalid("min_p {}: must be from 0 (all tokens) to 1", s.min_p);
  }
  return {};
}

int32_t sample(std::span<const float> logits, const Sampling& sampling, int64_t position,
               std::vector<std::pair<float, int32_t>>* scratch) {
  const Peak peak = find_peak(logits);
  if (peak.token < 0 || sampling.temperature == 0 || sampling.top_k == 1) return peak.token;

  const Weights weights(peak.logit, sampling.temperature);
  const double point = uniform(sampling.seed, position);
  const auto k = static_cast<size_t>(sampling.top_k);
  if (k > 0 && k < logits.size()) {
    keep_best(logits, k, scratch);
    double total = 0;
    for (Candidate& candidate : *scratch) total += candidate.first = weights(candidate.first);
    return draw(*scratch, total, sampling, point);
  }
  if (sampling.top_p < 1) {
    const double total = weights.total(logits, 0.0f);
    keep_heavy(logits, weights, sampling.top_p, total, scratch);
    return draw(*scratch, total, sampling, point);
  }
  return draw_from_row(logits, weights, sampling.min_p, point);
}

double log_probability(std::span<const float> logits, int32_t token) {
  CHECK(0 <= token && static_cast<size_t>(token) < logits.size(), "token {} of {}", token,
        logits.size());
  const double peak = largest(logits);
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - peak);
  return logits[static_cast<size_t>(token)] - peak - std::log(sum);
}

}  // namespace ashlar
