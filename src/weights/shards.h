#pragma once

// What one rank of a tensor-parallel group takes of each weight, as pure functions of sizes. One
// process runs every rank today; these say what a rank would load.
//
// Query heads are divided. KV heads are divided too or, when ranks exceed them, each is held by
// ranks / kv_heads neighbours, beside the query heads that read it. q, k, v, gate, up and the
// vocabulary are cut by rows; o and down by columns, so that the ranks' products sum to the whole.
// Latents and their projections are whole on every rank. Experts are dealt out whole.

#include <vector>

#include "base/result.h"
#include "spec/model.h"
#include "tensor/matrix.h"

namespace ashlar {

struct Rank {
  int64_t index = 0;  // below `of`
  int64_t of = 1;     // --tensor-parallel-size
};

struct Span {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t size() const { return end - begin; }
  bool operator==(const Span&) const = default;
};

struct AttentionShard {
  Span heads, kv_heads;
  Span q, k, v;  // rows
  Span o;        // columns; rows of the output gate
};

struct LatentShard {
  Span heads;
  Span q;     // rows of q or q_b
  Span kv_b;  // rows
  Span o;     // columns
};

// invalid when the ranks do not divide what they must: names it and both numbers. REQUIRES
// rank.index < rank.of.
Result<AttentionShard> attention_shard(const AttentionSpec& spec, const Rank& rank);
Result<LatentShard> latent_shard(const LatentSpec& spec, const Rank& rank);
Result<Span> inner_shard(int64_t intermediate, const Rank& rank);  // rows of gate, columns of down
Result<Span> expert_shard(int64_t n_experts, const Rank& rank);
Span vocab_shard(int64_t vocab, const Rank& rank);  // any size: the last ranks may hold fewer

// Whether every layer can be divided among so many ranks.
Status can_shard(const ModelSpec& model, int64_t ranks);

// A rank's rows of a stored matrix: pieces that stand one above the other, several where rows cross
// from one chunk to the next.
std::vector<Matrix> row_shard(const Matrix& w, const Span& rows);

// A rank's columns. invalid where they would cut a block of scales.
Result<Matrix> column_shard(const Matrix& w, const Span& columns);

}  // namespace ashlar
