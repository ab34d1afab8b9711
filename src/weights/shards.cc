#include "weights/shards.h"

#include <algorithm>

#include "base/checked.h"

namespace ashlar {
namespace {

Span scaled(const Span& span, int64_t unit) { return {span.begin * unit, span.end * unit}; }

Result<Span> equal_share(const char* what, int64_t n, const Rank& rank) {
  CHECK(0 <= rank.index && rank.index < rank.of, "rank {} of {}", rank.index, rank.of);
  if (n % rank.of != 0) {
    return invalid("tensor-parallel size {}: {} {} do not divide among {} ranks", rank.of, n, what,
                   rank.of);
  }
  const int64_t each = n / rank.of;
  return Span{rank.index * each, (rank.index + 1) * each};
}

// Divided, or one on each of several neighbours.
Result<Span> head_share(int64_t kv_heads, const Rank& rank) {
  if (rank.of <= kv_heads) return equal_share("KV heads", kv_heads, rank);
  if (rank.of % kv_heads != 0) {
    return invalid("tensor-parallel size {}: {} KV heads cannot each be on as many of {} ranks",
                   rank.of, kv_heads, rank.of);
  }
  const int64_t head = rank.index / (rank.of / kv_heads);
  return Span{head, head + 1};
}

}  // namespace

Result<AttentionShard> attention_shard(const AttentionSpec& spec, const Rank& rank) {
  AttentionShard shard;
  TRY(shard.heads, equal_share("query heads", spec.heads, rank));
  TRY(shard.kv_heads, head_share(spec.kv_heads, rank));
  shard.q = scaled(shard.heads, spec.k_dim);
  shard.k = scaled(shard.kv_heads, spec.k_dim);
  shard.v = scaled(shard.kv_heads, spec.v_dim);
  shard.o = scaled(shard.heads, spec.v_dim);
  return shard;
}

Result<LatentShard> latent_shard(const LatentSpec& spec, const Rank& rank) {
  LatentShard shard;
  TRY(shard.heads, equal_share("query heads", spec.heads, rank));
  shard.q = scaled(shard.heads, spec.nope_dim + spec.rope_dim);
  shard.kv_b = scaled(shard.heads, spec.nope_dim + spec.v_dim);
  shard.o = scaled(shard.heads, spec.v_dim);
  return shard;
}

Result<Span> inner_shard(int64_t intermediate, const Rank& rank) {
  return equal_share("rows of an MLP", intermediate, rank);
}

Result<Span> expert_shard(int64_t n_experts, const Rank& rank) {
  return equal_share("experts", n_experts, rank);
}

Span vocab_shard(int64_t vocab, const Rank& rank) {
  const int64_t each = ceil_div(vocab, rank.of);
  return {std::min(vocab, rank.index * each), std::min(vocab, (rank.index + 1) * each)};
}

Status can_shard(const ModelSpec& model, int64_t ranks) {
  const Rank rank{.index = 0, .of = ranks};
  for (const LayerSpec& layer : model.layers) {
    if (const auto* attention = std::get_if<AttentionSpec>(&layer.mixer)) {
      TRY_STATUS(attention_shard(*attention, rank));
    } else if (const auto* latent = std::get_if<LatentSpec>(&layer.mixer)) {
      TRY_STATUS(latent_shard(*latent, rank));
    } else if (const auto* state = std::get_if<StateSpec>(&layer.mixer)) {
      TRY_STATUS(equal_share("state heads", state->heads, rank));
    }
    if (const auto* moe = std::get_if<MoeMlp>(&layer.mlp)) {
      TRY_STATUS(expert_shard(moe->n_experts, rank));
      TRY_STATUS(inner_shard(moe->shared, rank));
    } else {
      TRY_STATUS(inner_shard(std::get<DenseMlp>(layer.mlp).intermediate, rank));
    }
  }
  return {};
}

std::vector<Matrix> row_shard(const Matrix& w, const Span& rows) {
  const int64_t height = w.chunk(0).dim(0);
  std::vector<Matrix> pieces;
  for (int64_t begin = rows.begin; begin < rows.end;) {
    const int64_t chunk = begin / height, first = begin % height;
    const int64_t n = std::min(rows.end - begin, height - first);
    pieces.push_back(w.chunk(chunk).rows(first, first + n));
    begin += n;
  }
  return pieces;
}

Result<Matrix> column_shard(const Matrix& w, const Span& columns) {
  CHECK(w.shape.rank == 2, "columns of {}", w.shape.text());
  const int64_t codes = w.dtype == DType::u8 ? 2 : 1;  // in an element
  if (!w.quantised()) return Matrix(w.columns(columns.begin, columns.end));
  const int64_t unit = w.dtype == DType::u8 ? kScaleGroup : kScaleBlock;
  if (columns.begin % unit != 0 || (columns.end % unit != 0 && columns.end != w.width())) {
    return invalid("columns {} to {} of {} cut a block of {} that shares a scale", columns.begin,
                   columns.end, w.width(), unit);
  }
  const ConstView values = w.columns(columns.begin / codes, columns.end / codes);
  const ConstView scales = w.scales.columns(columns.begin / unit, ceil_div(columns.end, unit));
  return Matrix(values, scales, w.first_row);
}

}  // namespace ashlar
