#include <cmath>
#include <vector>

#include "kernels/delta/delta.h"

namespace ashlar {
namespace {

std::vector<double> normal(const float* x, int64_t n, bool l2norm, double scale) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += double{x[i]} * x[i];
  const double factor = l2norm ? scale / std::sqrt(sum + double{kL2NormEps}) : scale;
  std::vector<double> y(x, x + n);
  for (double& value : y) value *= factor;
  return y;
}

// One token of one head; s [value_dim, key_dim].
void step(const DeltaParams& p, int64_t t, int64_t head, std::vector<double>& s) {
  const int64_t key_dim = p.k.dim(2), value_dim = p.v.dim(2);
  const int64_t key_head = head / (p.v.dim(1) / p.k.dim(1));
  const auto q = normal(p.q.row<float>(t) + key_head * key_dim, key_dim, p.l2norm, p.scale);
  const auto k = normal(p.k.row<float>(t) + key_head * key_dim, key_dim, p.l2norm, 1.0);
  const float* v = p.v.row<float>(t) + head * value_dim;
  const double decay = std::exp(double{p.g.row<float>(t)[head]});
  const double beta = p.beta.row<float>(t)[head];
  for (int64_t i = 0; i < value_dim; ++i) {
    double* row = s.data() + i * key_dim;
    double predicted = 0, out = 0;
    for (int64_t j = 0; j < key_dim; ++j) {
      row[j] *= decay;
      predicted += row[j] * k[static_cast<size_t>(j)];
    }
    for (int64_t j = 0; j < key_dim; ++j) {
      row[j] += beta * (v[i] - predicted) * k[static_cast<size_t>(j)];
      out += row[j] * q[static_cast<size_t>(j)];
    }
    p.out.row<float>(t)[head * value_dim + i] = static_cast<float>(out);
  }
}

}  // namespace

void delta_ref(const DeltaParams& p, Pool&) {
  const int64_t size = p.v.dim(2) * p.k.dim(2);
  for (const StateSeq& seq : p.seqs) {
    for (int64_t head = 0; head < p.v.dim(1); ++head) {
      std::vector<double> s(static_cast<size_t>(size));
      if (seq.position > 0) {
        const float* from = p.state.recurrent(seq, 0) + head * size;
        s.assign(from, from + size);
      }
      for (int32_t i = 0; i < seq.q_len; ++i) {
        step(p, seq.q_begin + i, head, s);
        if (seq.n_slots == 0 && i + 1 < seq.q_len) continue;
        float* to = p.state.recurrent(seq, p.state.slot_after(seq, i + 1)) + head * size;
        for (const double value : s) *to++ = static_cast<float>(value);
      }
    }
  }
}

void delta_gates_ref(const DeltaGatesParams& p, Pool&) {
  for (int64_t t = 0; t < p.a.dim(0); ++t) {
    for (int64_t h = 0; h < p.a.dim(1); ++h) {
      const double a = double{p.a.row<float>(t)[h]} + p.dt_bias[h];
      const double b = p.b.row<float>(t)[h];
      const double softplus = std::max(a, 0.0) + std::log1p(std::exp(-std::abs(a)));
      p.g.row<float>(t)[h] = static_cast<float>(-std::exp(double{p.a_log[h]}) * softplus);
      p.beta.row<float>(t)[h] = static_cast<float>(1.0 / (1.0 + std::exp(-b)));
    }
  }
}

Roof roof(const DeltaParams& p) {
  const double heads = static_cast<double>(p.v.dim(1));
  const double state = heads * static_cast<double>(p.v.dim(2) * p.k.dim(2));
  const double row = static_cast<double>(2 * p.k.dim(1) * p.k.dim(2)) +
                     heads * static_cast<double>(2 * p.v.dim(2) + 2);
  Roof roof;
  for (const StateSeq& seq : p.seqs) {
    const int32_t kept = seq.n_slots > 0 ? seq.q_len : 1;
    roof.bytes += 4 * state * (kept + (seq.position > 0 ? 1 : 0)) + 4 * row * seq.q_len;
    roof.flops += 7 * state * seq.q_len;
  }
  return roof;
}

Roof roof(const DeltaGatesParams& p) {
  const double elements = static_cast<double>(p.a.shape.elements());
  return {.bytes = 16 * elements, .flops = 8 * elements};
}

}  // namespace ashlar
