// The body of machines for which Highway has no vectors: plain loops over cells, which the compiler
// turns into whatever the machine has. The same steps as attention_cpu.cc, where the reasons stand.

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/attention/attention.h"
#include "kernels/attention/tile.h"

namespace ashlar {
namespace {

constexpr float kNothing = -std::numeric_limits<float>::infinity();

// q: [quads][padded k / 4][4 rows][4 dims] floats.
void pack(BlockWork& w) {
  const int64_t width = padded(w.k_dim);
  for (int64_t r = 0; r < w.n_quads * kQuad; ++r) {
    float* to = reinterpret_cast<float*>(w.q) + r / kQuad * kQuad * width + r % kQuad * kQuad;
    for (int64_t i = 0; i < width; ++i) {
      float value = i < w.k_dim ? w.q_rows[r][i] : 0.0f;
      if (w.round_q) value = to_float(to_bf16(value));
      to[i / kQuad * kCell + i % kQuad] = value;
    }
  }
}

float element(const std::byte* row, DType dtype, int64_t i) {
  if (dtype == DType::f32) return reinterpret_cast<const float*>(row)[i];
  if (dtype == DType::bf16) return to_float(reinterpret_cast<const Bf16*>(row)[i]);
  if (dtype == DType::f8e4m3) return to_float(reinterpret_cast<const F8E4M3*>(row)[i]);
  if (dtype == DType::f8e5m2) return to_float(reinterpret_cast<const F8E5M2*>(row)[i]);
  return to_float(reinterpret_cast<const F16*>(row)[i]);
}

// k_tile [tokens][padded k], v_tile [tokens][padded v], floats.
void load(BlockWork& w) {
  const auto widen = [&](const std::byte* const* rows, int64_t dim, std::byte* tile) {
    const int64_t width = padded(dim);
    for (int64_t t = w.tile->group_begin * kQuad; t < w.tile->group_end * kQuad; ++t) {
      float* to = reinterpret_cast<float*>(tile) + t * width;
      for (int64_t i = 0; i < width; ++i) to[i] = i < dim ? element(rows[t], w.dtype, i) : 0.0f;
    }
  };
  widen(w.tile->k, w.k_dim, w.k_tile);
  widen(w.tile->v, w.v_dim, w.v_tile);
}

void score_token(const float* q, const float* k, int64_t k_dim, float* cell, int token) {
  float sums[kCell] = {};
  for (int64_t i = 0; i < k_dim; i += kQuad, q += kCell) {
    for (int r = 0; r < kQuad; ++r) {
      for (int j = 0; j < kQuad; ++j) sums[r * kQuad + j] += k[i + j] * q[r * kQuad + j];
    }
  }
  for (int r = 0; r < kQuad; ++r) {
    const float* s = sums + r * kQuad;
    cell[r * kQuad + token] = (s[0] + s[2]) + (s[1] + s[3]);
  }
}

void scores(BlockWork& w) {
  const int64_t width = padded(w.k_dim);
  for (int64_t quad = 0; quad < w.n_quads; ++quad) {
    const float* q = reinterpret_cast<const float*>(w.q) + quad * kQuad * width;
    for (int64_t t = w.tile->group_begin * kQuad; t < w.tile->group_end * kQuad; ++t) {
      float* cell = w.scores + (quad * kTileGroups + t / kQuad) * kCell;
      score_token(q, reinterpret_cast<const float*>(w.k_tile) + t * width, w.k_dim, cell,
                  static_cast<int>(t % kQuad));
    }
  }
}

void scale(BlockWork& w, const float* factors) {
  for (int64_t quad = 0; quad < w.n_quads; ++quad) {
    for (int64_t g = w.tile->group_begin; g < w.tile->group_end; ++g) {
      float* cell = w.scores + (quad * kTileGroups + g) * kCell;
      for (int i = 0; i < kCell; ++i) cell[i] *= factors[g * kQuad + i % kQuad];
    }
  }
}

// The score of lane `at` at position j, in units of log 2.
float finish(const BlockWork& w, int64_t at, int32_t j, float dot) {
  if (j < w.visible_begin[at] || j >= w.visible_end[at]) return kNothing;
  float s = dot * w.scale;
  if (w.softcap != 0.0f) s = w.softcap * std::tanh(s / w.softcap);
  return s * kLog2E;
}

void softmax_row(BlockWork& w, int64_t row) {
  float* scores = w.scores + (row / kQuad * kTileGroups * kQuad + row % kQuad) * kQuad;
  const int64_t at = row * kQuad;
  const float old = w.state.max[at];
  float max = old;
  const int32_t begin = w.tile->group_begin * kQuad, end = w.tile->group_end * kQuad;
  const auto score = [&](int32_t t) -> float& { return scores[t / kQuad * kCell + t % kQuad]; };
  for (int32_t t = begin; t < end; ++t) {
    score(t) = finish(w, at, w.tile->position + t, score(t));
    max = std::max(max, score(t));
  }
  const float base = max == kNothing ? 0.0f : max;
  const float alpha = std::exp2(old - base);
  for (int j = 0; j < kQuad; ++j) {
    w.state.max[at + j] = max;
    w.alpha[at + j] = alpha;
    w.state.sum[at + j] *= alpha;
  }
  for (int32_t t = begin; t < end; ++t) {
    score(t) = std::exp2(score(t) - base);
    w.state.sum[at + t % kQuad] += score(t);
  }
}

void softmax(BlockWork& w) {
  for (int64_t row = 0; row < w.n_quads * kQuad; ++row) softmax_row(w, row);
}

void weigh(BlockWork& w) {
  const int64_t width = padded(w.v_dim);
  for (int64_t row = 0; row < w.n_quads * kQuad; ++row) {
    float* out = w.state.out + row * width;
    const float* p = w.scores + (row / kQuad * kTileGroups * kQuad + row % kQuad) * kQuad;
    for (int64_t i = 0; i < width; ++i) out[i] *= w.alpha[row * kQuad];
    for (int64_t t = w.tile->group_begin * kQuad; t < w.tile->group_end * kQuad; ++t) {
      const float* v = reinterpret_cast<const float*>(w.v_tile) + t * width;
      const float weight = p[t / kQuad * kCell + t % kQuad];
      for (int64_t i = 0; i < width; ++i) out[i] += weight * v[i];
    }
  }
}

void merge(const BlockWork& w, const State& into, const State& from) {
  const int64_t width = padded(w.v_dim);
  for (int64_t row = 0; row < w.n_quads * kQuad; ++row) {
    const int64_t at = row * kQuad;
    const float max = std::max(into.max[at], from.max[at]);
    const float base = max == kNothing ? 0.0f : max;
    const float a = std::exp2(into.max[at] - base), b = std::exp2(from.max[at] - base);
    for (int j = 0; j < kQuad; ++j) {
      into.max[at + j] = max;
      into.sum[at + j] = into.sum[at + j] * a + from.sum[at + j] * b;
    }
    float* out = into.out + row * width;
    for (int64_t i = 0; i < width; ++i) out[i] = out[i] * a + from.out[row * width + i] * b;
  }
}

void store(const BlockWork& w, const State& state) {
  for (int64_t row = 0; row < w.n_rows; ++row) {
    const float* sum = state.sum + row * kQuad;
    const float old = state.max[row * kQuad], sink = w.sinks[row] * kLog2E;
    const float max = std::max(old, sink);
    const float factor = std::exp2(old - max);
    const float total = ((sum[0] + sum[1]) + (sum[2] + sum[3])) * factor + std::exp2(sink - max);
    const float* out = state.out + row * padded(w.v_dim);
    const float scale = factor / total * w.v_scale;
    for (int64_t i = 0; i < w.v_dim; ++i) w.out_rows[row][i] = out[i] * scale;
  }
}

}  // namespace

const TileBody& tile_body_plain() {
  static constexpr TileBody kBody = {.pack = pack,
                                     .load = load,
                                     .scores = scores,
                                     .scale = scale,
                                     .softmax = softmax,
                                     .weigh = weigh,
                                     .merge = merge,
                                     .store = store};
  return kBody;
}

}  // namespace ashlar
