// The walk over a plan's tasks: finds each tile in the pages, hands it to the body of an
// instruction set, and keeps the order in which states are merged.

#include <algorithm>
#include <cstring>
#include <limits>

#include "kernels/attention/attention.h"
#include "kernels/attention/tile.h"

namespace ashlar {
namespace {

constexpr int64_t kCacheLine = 64;

int64_t aligned(int64_t bytes) { return (bytes + kCacheLine - 1) / kCacheLine * kCacheLine; }

struct Run {
  const AttnPlan& plan;
  const AttnParams& params;
  const TileBody& body;

  const AttnSeq& seq(const AttnBlock& block) const {
    return plan.seqs[static_cast<size_t>(block.seq)];
  }
  std::byte* scratch(int worker) const {
    return params.workspace.data() + worker * plan.scratch_bytes;
  }
  // Where the state of a split of a block done by several tasks lies.
  State meeting_place(const AttnBlock& block, int32_t split) const {
    const int64_t n_quads = quads(plan.shape, block);
    return State::at(params.workspace.data() + block.state_offset +
                         (split - block.split_begin()) * State::bytes(plan.shape, n_quads),
                     n_quads);
  }
};

void reset(const State& state, int64_t n_quads, int64_t v_dim) {
  std::fill_n(state.max, n_quads * kCell, -std::numeric_limits<float>::infinity());
  std::fill_n(state.sum, n_quads * kCell, 0.0f);
  std::fill_n(state.out, n_quads * kQuad * padded(v_dim), 0.0f);
}

// Everything about a block but its tiles. Row r is token r / group, head r % group; rows that fill
// up the last quad repeat the last row and are never stored.
void open_block(const Run& run, const AttnBlock& block, BlockWork& work) {
  const AttnShape& shape = run.plan.shape;
  const AttnParams& p = run.params;
  const AttnSeq& seq = run.seq(block);
  const int32_t group = shape.heads / shape.kv_heads;
  work.k_dim = shape.k_dim;
  work.v_dim = shape.v_dim;
  work.n_rows = (block.token_end - block.token_begin) * group;
  work.n_quads = quads(shape, block);
  work.dtype = p.kv.dtype;
  const bool tensor_scales = is_f8(p.kv.dtype) && !p.kv.has_token_scales();
  work.scale = tensor_scales ? p.scale * p.kv.k_scale : p.scale;
  work.v_scale = tensor_scales ? p.kv.v_scale : 1.0f;
  work.token_scales = p.kv.has_token_scales();
  work.softcap = p.softcap;
  work.round_q = p.compute == DType::bf16;
  work.k_bytes = p.kv.k_dim * size_of(p.kv.dtype);
  work.v_bytes = p.kv.v_dim * size_of(p.kv.dtype);
  for (int32_t r = 0; r < work.n_quads * kQuad; ++r) {
    const int32_t row = std::min(r, work.n_rows - 1);
    const int32_t token = block.token_begin + row / group;
    const int64_t head = block.kv_head * group + row % group;
    const int64_t place = (seq.q_begin + token) * int64_t{shape.heads} + head;
    work.q_rows[r] = reinterpret_cast<const float*>(p.q.data) + place * shape.k_dim;
    work.out_rows[r] = reinterpret_cast<float*>(p.out.data) + place * shape.v_dim;
    work.sinks[r] = p.sinks ? p.sinks[head] : -std::numeric_limits<float>::infinity();
    const TokenRange range = visible(shape, seq, token);
    std::fill_n(work.visible_begin + r * kQuad, kQuad, range.begin);
    std::fill_n(work.visible_end + r * kQuad, kQuad, range.end);
  }
}

// The scales of the tile's tokens [begin, end), of one page, from `slot` on.
void find_scales(const PagedView& kv, uint32_t granule, int64_t head, int64_t slot, int32_t begin,
                 int32_t end, Tile& tile) {
  const auto bytes = static_cast<size_t>(end - begin) * sizeof(float);
  std::memcpy(tile.k_scales + begin, kv.k_token_scale(granule, head, slot), bytes);
  const float* v =
      kv.v_dim > 0 ? kv.v_token_scale(granule, head, slot) : kv.k_token_scale(granule, head, slot);
  std::memcpy(tile.v_scales + begin, v, bytes);
}

// Finds tile `index` (positions from index * kKvTile) in the pages.
void find(const Run& run, const AttnBlock& block, int32_t index, const std::byte* zeros,
          Tile& tile) {
  const PagedView& kv = run.params.kv;
  const AttnSeq& seq = run.seq(block);
  tile.position = index * kKvTile;
  const int32_t begin = std::max(block.kv_begin, tile.position) - tile.position;
  const int32_t end = std::min(block.kv_end, tile.position + kKvTile) - tile.position;
  tile.group_begin = begin / kQuad;
  tile.group_end = (end + kQuad - 1) / kQuad;
  for (int32_t i = 0; i < begin; ++i) tile.k[i] = tile.v[i] = zeros;
  for (int32_t i = end; i < kKvTile; ++i) tile.k[i] = tile.v[i] = zeros;
  if (kv.has_token_scales()) {
    std::fill_n(tile.k_scales, kKvTile, 1.0f);
    std::fill_n(tile.v_scales, kKvTile, 1.0f);
  }
  const int64_t k_bytes = kv.k_dim * size_of(kv.dtype);
  const int64_t v_bytes = kv.v_dim > 0 ? kv.v_dim * size_of(kv.dtype) : k_bytes;
  const int64_t head = int64_t{block.kv_head} * kv.kv_heads / run.plan.shape.kv_heads;
  for (int32_t i = begin; i < end;) {
    const int32_t page = (tile.position + i) / kv.page_tokens;
    const int32_t slot = (tile.position + i) % kv.page_tokens;
    const int32_t stop = std::min(end, i + kv.page_tokens - slot);
    if (kv.has_token_scales()) find_scales(kv, seq.pages[page], head, slot, i, stop, tile);
    const std::byte* k = kv.k(seq.pages[page], head, slot);
    const std::byte* v = kv.v_dim > 0 ? kv.v(seq.pages[page], head, slot) : k;
    for (; i < stop; ++i, k += k_bytes, v += v_bytes) tile.k[i] = k, tile.v[i] = v;
  }
  // The first row sees least far, the last row starts latest.
  const AttnShape& shape = run.plan.shape;
  tile.masked =
      visible(shape, seq, block.token_end - 1).begin > tile.position + tile.group_begin * kQuad ||
      visible(shape, seq, block.token_begin).end < tile.position + tile.group_end * kQuad;
}

void run_task(const Run& run, const AttnTask& task, std::byte* scratch) {
  const AttnBlock& block = run.plan.blocks[static_cast<size_t>(task.block)];
  const bool alone = block.state_offset < 0;
  BlockWork work;
  State states[2];
  work.n_quads = quads(run.plan.shape, block);
  Scratch::cut(scratch, run.plan.shape, work, states);
  open_block(run, block, work);
  const int32_t first = std::max(block.kv_begin, task.split_begin * kKvSplit) / kKvTile;
  const int32_t end = (std::min(block.kv_end, task.split_end * kKvSplit) + kKvTile - 1) / kKvTile;
  Tile tiles[2];
  find(run, block, first, work.zeros, tiles[first % 2]);
  // The first tile at once; later ones are asked for by the bodies, one ahead.
  const Tile& start = tiles[first % 2];
  prefetch(start, start.group_begin, start.group_end, work.k_bytes, work.v_bytes);
  run.body.pack(work);
  constexpr int32_t kTilesPerSplit = kKvSplit / kKvTile;
  for (int32_t index = first; index < end; ++index) {
    const int32_t split = index / kTilesPerSplit;
    const bool in_first_split = split == task.split_begin;
    if (index == first || index % kTilesPerSplit == 0) {
      work.state = alone ? states[in_first_split ? 0 : 1] : run.meeting_place(block, split);
      reset(work.state, work.n_quads, work.v_dim);
    }
    work.tile = &tiles[index % 2];
    work.next = index + 1 < end ? &tiles[(index + 1) % 2] : work.tile;
    if (index + 1 < end) find(run, block, index + 1, work.zeros, tiles[(index + 1) % 2]);
    run.body.load(work);
    run.body.scores(work);
    if (work.token_scales) run.body.scale(work, work.tile->k_scales);
    run.body.softmax(work);
    if (work.token_scales) run.body.scale(work, work.tile->v_scales);
    run.body.weigh(work);
    const bool ends_split = index + 1 == end || (index + 1) % kTilesPerSplit == 0;
    if (ends_split && alone && !in_first_split) run.body.merge(work, states[0], work.state);
  }
  if (alone) run.body.store(work, states[0]);
}

void merge_block(const Run& run, const AttnBlock& block, std::byte* scratch) {
  BlockWork work;
  State states[2];
  work.n_quads = quads(run.plan.shape, block);
  Scratch::cut(scratch, run.plan.shape, work, states);
  open_block(run, block, work);
  const State total = run.meeting_place(block, block.split_begin());
  for (int32_t split = block.split_begin() + 1; split < block.split_end(); ++split) {
    run.body.merge(work, total, run.meeting_place(block, split));
  }
  run.body.store(work, total);
}

void check(const AttnPlan& plan, const AttnParams& p, const Pool& pool) {
  CHECK(pool.size() <= plan.n_threads, "a pool of {} runs a plan for {}", pool.size(),
        plan.n_threads);
  CHECK(static_cast<int64_t>(p.workspace.size()) >= plan.workspace_bytes, "workspace {} of {}",
        p.workspace.size(), plan.workspace_bytes);
  const bool v_in_k = p.kv.v_dim == 0 && plan.shape.v_dim <= plan.shape.k_dim;
  CHECK(p.kv.k_dim == plan.shape.k_dim && (p.kv.v_dim == plan.shape.v_dim || v_in_k), "k {} v {}",
        p.kv.k_dim, p.kv.v_dim);
  CHECK(plan.shape.kv_heads % p.kv.kv_heads == 0, "kv heads {}", p.kv.kv_heads);
  const DType stored = p.kv.dtype;
  CHECK(stored == DType::f32 || stored == DType::f16 || fits_bf16(stored), "{}", name(stored));
  CHECK(p.compute == DType::f32 || (p.compute == DType::bf16 && fits_bf16(stored)),
        "compute {} on {} pages", name(p.compute), name(stored));
  CHECK(!p.kv.has_token_scales() || is_f8(stored), "token scales in {} pages", name(stored));
}

}  // namespace

int64_t Scratch::bytes(const AttnShape& shape, int64_t n_quads) {
  const int64_t k = padded(shape.k_dim), v = padded(shape.v_dim);
  const int64_t cells = n_quads * kTileGroups;
  const int64_t floats = n_quads * kQuad * k +                // q
                         cells * kCell + cells * kCell / 2 +  // scores, p
                         3 * n_quads * kCell +                // alpha, visible
                         kKvTile * (k + v) + std::max(k, v);  // tiles, zeros
  return aligned(floats * int64_t{sizeof(float)} + 2 * State::bytes(shape, n_quads));
}

void Scratch::cut(std::byte* memory, const AttnShape& shape, BlockWork& work, State (&states)[2]) {
  const int64_t n_quads = work.n_quads;
  const int64_t k = padded(shape.k_dim), v = padded(shape.v_dim);
  const auto take = [&](int64_t n_floats) {
    std::byte* taken = memory;
    memory += n_floats * int64_t{sizeof(float)};
    return taken;
  };
  const int64_t cells = n_quads * kTileGroups;
  work.q = take(n_quads * kQuad * k);
  work.scores = reinterpret_cast<float*>(take(cells * kCell));
  work.p = take(cells * kCell / 2);
  work.alpha = reinterpret_cast<float*>(take(n_quads * kCell));
  work.visible_begin = reinterpret_cast<int32_t*>(take(n_quads * kCell));
  work.visible_end = reinterpret_cast<int32_t*>(take(n_quads * kCell));
  work.k_tile = take(kKvTile * k);
  work.v_tile = take(kKvTile * v);
  std::byte* zeros = take(std::max(k, v));
  std::memset(zeros, 0, static_cast<size_t>(std::max(k, v)) * sizeof(float));
  work.zeros = zeros;
  for (State& state : states) {
    state = State::at(memory, n_quads);
    memory += State::bytes(shape, n_quads);
  }
}

void attend(const AttnPlan& plan, const AttnParams& params, const TileBody& body, Pool& pool) {
  check(plan, params, pool);
  const Run run{plan, params, body};
  pool.each(static_cast<int64_t>(plan.tasks.size()), [&](int64_t task, int worker) {
    run_task(run, plan.tasks[static_cast<size_t>(task)], run.scratch(worker));
  });
  pool.each(static_cast<int64_t>(plan.merges.size()), [&](int64_t merge, int worker) {
    const auto block = static_cast<size_t>(plan.merges[static_cast<size_t>(merge)]);
    merge_block(run, plan.blocks[block], run.scratch(worker));
  });
}

}  // namespace ashlar
