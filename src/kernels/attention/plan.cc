#include <algorithm>

#include "kernels/attention/attention.h"
#include "kernels/attention/tile.h"

namespace ashlar {
namespace {

// A step is cut into about this many pieces of work per thread: enough that the threads end
// together, few enough that starting a piece (packing queries, the first tile from memory) stays
// small.
constexpr int64_t kPiecesPerThread = 16;

// The work of a block per token it sees, in quads of rows. A token costs something however few rows
// look at it: it must be read.
int64_t cost(const AttnBlock& block, int64_t group) {
  const int64_t rows = (block.token_end - block.token_begin) * group;
  return (block.kv_end - block.kv_begin) * ((rows + kQuad - 1) / kQuad + 2);
}

void add_blocks(const AttnShape& shape, const AttnSeq& seq, int32_t index,
                std::vector<AttnBlock>& blocks) {
  const int32_t tokens_per_block = kMaxBlockRows / (shape.heads / shape.kv_heads);
  for (int32_t kv_head = 0; kv_head < shape.kv_heads; ++kv_head) {
    // Last tokens first: under a causal mask they see most, and long work should start early.
    for (int32_t end = seq.q_len; end > 0; end -= std::min(end, tokens_per_block)) {
      AttnBlock block{.seq = index, .kv_head = kv_head, .token_end = end};
      block.token_begin = std::max(0, end - tokens_per_block);
      block.kv_begin = visible(shape, seq, block.token_begin).begin;
      block.kv_end = visible(shape, seq, end - 1).end;
      blocks.push_back(block);
    }
  }
}

// Cuts the block into n_pieces tasks of whole splits, as equal as they can be.
void add_tasks(const AttnBlock& block, int32_t index, int64_t n_pieces, AttnPlan& plan) {
  const int64_t n_splits = block.split_end() - block.split_begin();
  for (int64_t piece = 0; piece < n_pieces; ++piece) {
    plan.tasks.push_back(
        {.block = index,
         .split_begin = block.split_begin() + static_cast<int32_t>(n_splits * piece / n_pieces),
         .split_end =
             block.split_begin() + static_cast<int32_t>(n_splits * (piece + 1) / n_pieces)});
  }
}

void check(const AttnShape& shape, std::span<const AttnSeq> seqs) {
  CHECK(shape.kv_heads >= 1 && shape.heads % shape.kv_heads == 0, "{} heads over {}", shape.heads,
        shape.kv_heads);
  CHECK(shape.heads / shape.kv_heads <= kMaxQueriesPerKvHead, "{} queries per KV head",
        shape.heads / shape.kv_heads);
  CHECK(shape.k_dim >= 1 && shape.v_dim >= 1, "k {} v {}", shape.k_dim, shape.v_dim);
  for (const AttnSeq& seq : seqs) {
    CHECK(seq.q_begin >= 0 && seq.q_len >= 0 && seq.q_len <= seq.kv_len, "q {}+{} kv {}",
          seq.q_begin, seq.q_len, seq.kv_len);
  }
}

}  // namespace

TokenRange visible(const AttnShape& shape, const AttnSeq& seq, int32_t token) {
  const int32_t position = seq.kv_len - seq.q_len + token;
  return {.begin = shape.window > 0 ? std::max(0, position - shape.window + 1) : 0,
          .end = shape.causal ? position + 1 : seq.kv_len};
}

AttnPlan plan_attention(const AttnShape& shape, std::span<const AttnSeq> seqs, int n_threads) {
  CHECK(n_threads >= 1, "n_threads {}", n_threads);
  check(shape, seqs);
  AttnPlan plan{.shape = shape, .n_threads = n_threads, .seqs = {seqs.begin(), seqs.end()}};
  for (size_t i = 0; i < seqs.size(); ++i) {
    add_blocks(shape, seqs[i], static_cast<int32_t>(i), plan.blocks);
  }
  const int64_t group = shape.heads / shape.kv_heads;
  int64_t total = 0;
  int32_t max_quads = 0;
  for (const AttnBlock& block : plan.blocks) {
    total += cost(block, group);
    max_quads = std::max(max_quads, quads(shape, block));
  }
  plan.scratch_bytes = Scratch::bytes(shape, max_quads);
  plan.workspace_bytes = plan.scratch_bytes * n_threads;
  const int64_t piece_cost = total / (n_threads * kPiecesPerThread) + 1;
  for (size_t i = 0; i < plan.blocks.size(); ++i) {
    AttnBlock& block = plan.blocks[i];
    const int64_t n_splits = block.split_end() - block.split_begin();
    const int64_t n_pieces =
        n_threads == 1 ? 1 : std::min(n_splits, (cost(block, group) + piece_cost - 1) / piece_cost);
    add_tasks(block, static_cast<int32_t>(i), n_pieces, plan);
    if (n_pieces == 1) continue;
    plan.merges.push_back(static_cast<int32_t>(i));
    block.state_offset = plan.workspace_bytes;
    plan.workspace_bytes += n_splits * State::bytes(shape, quads(shape, block));
  }
  return plan;
}

std::string to_text(const AttnPlan& plan) {
  const AttnShape& shape = plan.shape;
  std::string out = fmt::format(
      "attention: {} heads over {}, k {} v {}, window {}, {}; {} sequences, {} blocks, {} tasks, "
      "{} merges, {} threads, workspace {} bytes\n",
      shape.heads, shape.kv_heads, shape.k_dim, shape.v_dim, shape.window,
      shape.causal ? "causal" : "not causal", plan.seqs.size(), plan.blocks.size(),
      plan.tasks.size(), plan.merges.size(), plan.n_threads, plan.workspace_bytes);
  for (const AttnTask& task : plan.tasks) {
    const AttnBlock& block = plan.blocks[static_cast<size_t>(task.block)];
    out += fmt::format(
        "  sequence {} kv head {} tokens [{}, {}) sees [{}, {}): splits [{}, {}){}\n", block.seq,
        block.kv_head, block.token_begin, block.token_end, block.kv_begin, block.kv_end,
        task.split_begin, task.split_end, block.state_offset < 0 ? "" : ", merged");
  }
  return out;
}

Roof roof(const AttnPlan& plan, const AttnParams& p) {
  const AttnShape& shape = plan.shape;
  const int64_t row_bytes = (shape.k_dim + shape.v_dim) * size_of(p.kv.dtype) +
                            (p.kv.has_token_scales() ? 2 * int64_t{sizeof(float)} : 0);
  const auto kv_bytes_per_token = static_cast<double>(shape.kv_heads * row_bytes);
  Roof roof;
  for (const AttnSeq& seq : plan.seqs) {
    if (seq.q_len == 0) continue;
    const int32_t begin = visible(shape, seq, 0).begin;
    const int32_t end = visible(shape, seq, seq.q_len - 1).end;
    double pairs = 0;
    for (int32_t token = 0; token < seq.q_len; ++token) {
      const TokenRange range = visible(shape, seq, token);
      pairs += range.end - range.begin;
    }
    roof.bytes += (end - begin) * kv_bytes_per_token +
                  static_cast<double>(seq.q_len) * shape.heads * (shape.k_dim + shape.v_dim) * 4;
    roof.flops += pairs * shape.heads * 2 * (shape.k_dim + shape.v_dim);
  }
  return roof;
}

}  // namespace ashlar
