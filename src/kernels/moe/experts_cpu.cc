#include <algorithm>
#include <cstring>

#include "kernels/gemm/gemm_body.h"
#include "kernels/moe/moe.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/moe/experts_cpu.cc"
#include "kernels/cpu_targets.h"
// After cpu_targets.h, which trims the list of targets.
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/act/gating-inl.h"

HWY_BEFORE_NAMESPACE();
namespace ashlar::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// gate = gated(gate, up) over one piece of a row.
template <GateKind kKind>
void GatePiece(const Gating& gating, float* HWY_RESTRICT gate, const float* HWY_RESTRICT up) {
  const hn::ScalableTag<float> d;
  for (size_t i = 0; i < static_cast<size_t>(kPackUnit); i += hn::Lanes(d)) {
    hn::Store(Gated<kKind>(d, gating, hn::Load(d, gate + i), hn::Load(d, up + i)), d, gate + i);
  }
}

auto GatePieceOf(GateKind kind) {
  switch (kind) {
    case GateKind::silu: return GatePiece<GateKind::silu>;
    case GateKind::gelu: return GatePiece<GateKind::gelu>;
    case GateKind::clamped: return GatePiece<GateKind::clamped>;
    case GateKind::sigmoid: return GatePiece<GateKind::sigmoid>;
  }
  return GatePiece<GateKind::silu>;
}

}  // namespace ashlar::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace ashlar {
namespace {

ASHLAR_PER_ISA(gate_piece, GatePieceOf)

// Tokens go through in rounds, which bounds the scratch; a token's result does not depend on who
// shares its round.
constexpr int64_t kRoundTokens = 512;
// Rows of one expert that a task multiplies at a time, and weight rows: as many tasks as there are
// pieces of 64 weight rows keep all threads reading even when one token picks eight experts.
constexpr int64_t kTaskRows = kTaskOutputs / kPackUnit;
constexpr int64_t kCombineColumns = 1024;

// A round's scratch. A slot is t * top_k + k of the round; rows are slots sorted by expert.
struct Scratch {
  int32_t* begin;      // [n_experts + 1] first row of each expert
  int32_t* active;     // [n_experts] experts with rows
  int32_t* slot;       // [rows]
  int32_t* row;        // [slots]
  std::byte* x;        // packed [rows, hidden]
  std::byte* inner;    // packed [rows, intermediate]
  float* down;         // [rows, hidden]
  int64_t used_bytes;  // of the workspace

  Scratch(std::byte* memory, int64_t n_rows, int64_t hidden, int64_t intermediate,
          int64_t n_experts) {
    int64_t at = 0;
    const auto take = [&](int64_t bytes) {
      std::byte* start = memory ? memory + at : nullptr;
      at += round_up(bytes, 64);
      return start;
    };
    begin = reinterpret_cast<int32_t*>(take((n_experts + 1) * 4));
    active = reinterpret_cast<int32_t*>(take(n_experts * 4));
    slot = reinterpret_cast<int32_t*>(take(n_rows * 4));
    row = reinterpret_cast<int32_t*>(take(n_rows * 4));
    x = take(PackedRows::bytes(n_rows, hidden));
    inner = take(PackedRows::bytes(n_rows, intermediate));
    down = reinterpret_cast<float*>(take(n_rows * hidden * 4));
    used_bytes = at;
  }
};

struct Round {
  const ExpertsParams& p;
  Isa isa;
  GemmBody body;
  int64_t t_begin, n_tokens, top_k;
  int64_t hidden, intermediate;
  Scratch scratch;
  PackedRows x, inner;
  int64_t n_active = 0;

  Round(const ExpertsParams& params, Isa set, int64_t begin, int64_t tokens)
      : p(params),
        isa(set),
        body(gemm_body(set, params.compute, params.experts[0].gate.dtype)),
        t_begin(begin),
        n_tokens(tokens),
        top_k(params.ids.dim(1)),
        hidden(params.x.dim(1)),
        intermediate(params.experts[0].gate.dim(0)),
        scratch(params.workspace.data(), tokens * top_k, hidden, intermediate,
                static_cast<int64_t>(params.experts.size())),
        x(body, scratch.x, tokens * top_k, hidden),
        inner(body, scratch.inner, tokens * top_k, intermediate) {}
};

int32_t id_of(const Round& r, int64_t slot) {
  return r.p.ids.row<int32_t>(r.t_begin + slot / r.top_k)[slot % r.top_k];
}

// Counting sort of the slots by expert.
void group(Round& r) {
  const auto n_experts = static_cast<int64_t>(r.p.experts.size());
  int32_t* begin = r.scratch.begin;
  std::fill_n(begin, n_experts + 1, 0);
  const int64_t n_slots = r.n_tokens * r.top_k;
  for (int64_t slot = 0; slot < n_slots; ++slot) {
    const int32_t id = id_of(r, slot);
    CHECK(0 <= id && id < n_experts, "expert {} of {}", id, n_experts);
    ++begin[id + 1];
  }
  for (int64_t e = 0; e < n_experts; ++e) {
    if (begin[e + 1] != 0) r.scratch.active[r.n_active++] = static_cast<int32_t>(e);
    begin[e + 1] += begin[e];
  }
  for (int64_t slot = 0; slot < n_slots; ++slot) {
    const int32_t row = begin[id_of(r, slot)]++;
    r.scratch.slot[row] = static_cast<int32_t>(slot);
    r.scratch.row[slot] = row;
  }
  // Filling moved every begin to its end, which is the next one's begin.
  for (int64_t e = n_experts; e > 0; --e) begin[e] = begin[e - 1];
  begin[0] = 0;
}

void gather(const Round& r, Pool& pool) {
  pool.each(r.n_tokens * r.top_k, [&](int64_t row, int) {
    const int64_t token = r.t_begin + r.scratch.slot[row] / r.top_k;
    pack_columns(r.body, r.x, row, r.p.x.row<float>(token), {0, r.hidden});
  });
}

// fn(expert, rows, columns) for every active expert, piece of its rows and 64 of n_columns. A task
// is one piece of columns.
template <class Fn>
void each_piece(const Round& r, int64_t n_columns, Pool& pool, Fn&& fn) {
  const int64_t pieces = ceil_div(n_columns, kPackUnit);
  pool.each(r.n_active * pieces, [&](int64_t task, int) {
    const int32_t id = r.scratch.active[task / pieces];
    const int64_t n = task % pieces * kPackUnit;
    const Span columns = {n, std::min(n_columns, n + kPackUnit)};
    const int64_t end = r.scratch.begin[id + 1];
    for (int64_t row = r.scratch.begin[id]; row < end; row += kTaskRows) {
      fn(r.p.experts[static_cast<size_t>(id)], Span{row, std::min(end, row + kTaskRows)}, columns);
    }
  });
}

// The piece of a bias that belongs to `columns` of a product, as floats; zeros where there is none.
void bias_piece(const ConstView& bias, Span columns, float* piece) {
  std::fill_n(piece, kPackUnit, 0.0f);
  for (int64_t i = columns.begin; bias && i < columns.end; ++i) {
    piece[i - columns.begin] =
        bias.dtype == DType::bf16 ? to_float(*bias.row<Bf16>(i)) : *bias.row<float>(i);
  }
}

// One row's piece of a product; what lies after its columns becomes zero.
void add_bias(float* sums, int64_t n_columns, const float* bias) {
  std::fill(sums + n_columns, sums + kPackUnit, 0.0f);
  for (int64_t i = 0; i < kPackUnit; ++i) sums[i] += bias[i];
}

void gate_up(const Round& r, Pool& pool) {
  const auto gate_of = gate_piece(r.isa)(r.p.gating.kind);
  each_piece(r, r.intermediate, pool, [&](const ExpertWeights& w, Span rows, Span columns) {
    alignas(64) float gate[kTaskOutputs];
    alignas(64) float up[kTaskOutputs];
    alignas(64) float gate_bias[kPackUnit], up_bias[kPackUnit];
    bias_piece(w.gate_bias, columns, gate_bias);
    bias_piece(w.up_bias, columns, up_bias);
    multiply(r.body, w.gate, columns, r.x, rows, gate, kPackUnit);
    multiply(r.body, w.up, columns, r.x, rows, up, kPackUnit);
    const int64_t n_columns = columns.end - columns.begin;
    for (int64_t row = rows.begin; row < rows.end; ++row) {
      const int64_t at = (row - rows.begin) * kPackUnit;
      add_bias(gate + at, n_columns, gate_bias);
      add_bias(up + at, n_columns, up_bias);
      gate_of(r.p.gating, gate + at, up + at);
      pack_columns(r.body, r.inner, row, gate + at, columns);
    }
  });
}

void down(const Round& r, Pool& pool) {
  each_piece(r, r.hidden, pool, [&](const ExpertWeights& w, Span rows, Span columns) {
    alignas(64) float sums[kTaskOutputs];
    float bias[kPackUnit];
    bias_piece(w.down_bias, columns, bias);
    multiply(r.body, w.down, columns, r.inner, rows, sums, kPackUnit);
    for (int64_t row = rows.begin; row < rows.end; ++row) {
      const float* from = sums + (row - rows.begin) * kPackUnit;
      float* to = r.scratch.down + row * r.hidden + columns.begin;
      for (int64_t i = 0; i < columns.end - columns.begin; ++i) to[i] = from[i] + bias[i];
    }
  });
}

// y[t] += the weighted rows of the token, in the order of its ids.
void combine(const Round& r, Pool& pool) {
  const int64_t pieces = ceil_div(r.hidden, kCombineColumns);
  pool.each(r.n_tokens * pieces, [&](int64_t task, int) {
    const int64_t t = task / pieces, begin = task % pieces * kCombineColumns;
    const int64_t n = std::min(kCombineColumns, r.hidden - begin);
    const float* weights = r.p.weights.row<float>(r.t_begin + t);
    float sum[kCombineColumns] = {};
    for (int64_t k = 0; k < r.top_k; ++k) {
      const float* row = r.scratch.down + r.scratch.row[t * r.top_k + k] * r.hidden + begin;
      for (int64_t i = 0; i < n; ++i) sum[i] += weights[k] * row[i];
    }
    float* y = r.p.y.row<float>(r.t_begin + t) + begin;
    for (int64_t i = 0; i < n; ++i) y[i] += sum[i];
  });
}

template <Isa kIsa>
void experts(const ExpertsParams& p, Pool& pool) {
  const int64_t n_tokens = p.x.dim(0);
  if (n_tokens == 0 || p.ids.dim(1) == 0) return;
  CHECK(!p.experts.empty(), "no experts");
  const auto n_experts = static_cast<int64_t>(p.experts.size());
  const int64_t wanted = experts_workspace_bytes(n_tokens, p.x.dim(1), p.experts[0].gate.dim(0),
                                                 p.ids.dim(1), n_experts);
  CHECK(static_cast<int64_t>(p.workspace.size()) >= wanted, "experts workspace of {} bytes, not {}",
        p.workspace.size(), wanted);
  for (int64_t t = 0; t < n_tokens; t += kRoundTokens) {
    Round round(p, kIsa, t, std::min(kRoundTokens, n_tokens - t));
    group(round);
    gather(round, pool);
    gate_up(round, pool);
    down(round, pool);
    combine(round, pool);
  }
}

}  // namespace

int64_t experts_workspace_bytes(int64_t n_tokens, int64_t hidden, int64_t intermediate,
                                int64_t top_k, int64_t n_experts) {
  const int64_t n_rows = std::min(n_tokens, kRoundTokens) * top_k;
  return Scratch(nullptr, n_rows, hidden, intermediate, n_experts).used_bytes;
}

ExpertsFn experts_cpu(Isa isa) {
  switch (isa) {
    case Isa::baseline: return experts<Isa::baseline>;
    case Isa::avx2: return experts<Isa::avx2>;
    case Isa::avx512: return experts<Isa::avx512>;
    case Isa::avx512_bf16: return experts<Isa::avx512_bf16>;
  }
  return experts<Isa::baseline>;
}

}  // namespace ashlar
#endif
