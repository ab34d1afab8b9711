#include <algorithm>
#include <cstring>
#include <queue>

#include "kernels/attention/cuda/attention_cuda.h"
#include "kernels/attention/tile.h"

namespace ashlar {
namespace {

// What starting on rows costs, in tokens of K and V: the queries to load, the first copies to wait
// for, the state to leave.
constexpr int64_t kStartTokens = 96;
// What merging costs, in tokens a multiprocessor could walk meanwhile.
constexpr int64_t kMergeTokens = 256;

// Rows that are walked together, with everything they see.
using RowTile = CudaWork;

void add_tiles(const AttnShape& shape, const CudaTiling& tiling, const AttnSeq& seq, int32_t index,
               std::vector<RowTile>& tiles) {
  const int32_t group = shape.heads / shape.kv_heads;
  const int32_t n_heads = std::min(group, tiling.rows);
  const int32_t tokens = tiling.rows / n_heads;
  for (int32_t kv_head = 0; kv_head < shape.kv_heads; ++kv_head) {
    for (int32_t head = 0; head < group; head += n_heads) {
      // Last tokens first: under a causal mask they see most, and long work should start early.
      for (int32_t end = seq.q_len; end > 0; end -= std::min(end, tokens)) {
        const int32_t begin = std::max(0, end - tokens);
        tiles.push_back({.seq = index,
                         .head_begin = kv_head * group + head,
                         .n_heads = std::min(n_heads, group - head),
                         .token_begin = begin,
                         .token_end = end,
                         .kv_begin = visible(shape, seq, begin).begin,
                         .kv_end = visible(shape, seq, end - 1).end,
                         .q_begin = seq.q_begin,
                         .q_position = seq.kv_len - seq.q_len,
                         .kv_len = seq.kv_len,
                         .kv_head = kv_head,
                         .heads_inverse = 65536 / std::min(n_heads, group - head) + 1,
                         .pages = seq.pages});
      }
    }
  }
}

// Deals the splits of all tiles in order to blocks of at most `capacity` tokens each (a block takes
// one split at least) and returns how many blocks that takes. `take(tile, begin, end, block)` hears
// of every piece, by positions.
template <class Take>
int32_t deal(int32_t split, const std::vector<RowTile>& tiles, int64_t capacity, Take take) {
  int32_t block = 0;
  int64_t held = 0;
  for (const RowTile& tile : tiles) {
    int32_t begin = tile.kv_begin;
    while (begin < tile.kv_end) {
      const int64_t room = capacity - held - kStartTokens;
      int64_t end = tile.kv_end;
      if (end - begin > room) {
        end = std::max<int64_t>(begin + room, 0) / split * split;
        if (end <= begin && held == 0) end = std::min(tile.kv_end, (begin / split + 1) * split);
      }
      if (end > begin) {
        take(tile, begin, static_cast<int32_t>(end), block);
        held += kStartTokens + end - begin;
        begin = static_cast<int32_t>(end);
      }
      if (begin < tile.kv_end) ++block, held = 0;
    }
  }
  return block + 1;
}

int64_t cost_of(const RowTile& tile) { return tile.kv_end - tile.kv_begin + kStartTokens; }

void nothing(const RowTile&, int32_t, int32_t, int32_t) {}

// The least capacity that `n_blocks` blocks can carry.
int64_t fair_capacity(int32_t split, const std::vector<RowTile>& tiles, int64_t total,
                      int32_t n_blocks) {
  int64_t low = total / n_blocks, high = low + split + 2 * kStartTokens;
  while (deal(split, tiles, high, nothing) > n_blocks) low = high, high += split;
  while (high - low > kStartTokens / 4) {
    const int64_t middle = low + (high - low) / 2;
    (deal(split, tiles, middle, nothing) <= n_blocks ? high : low) = middle;
  }
  return high;
}

// Tiles as they are, the longest first to the block that has least.
struct WholeTiles {
  std::vector<int64_t> blocks;  // block << 32 | tile, by block
  int64_t capacity = 0;         // the fullest block's
};

WholeTiles deal_whole(const std::vector<RowTile>& tiles, int32_t n_blocks) {
  // Pairs of numbers in one, the first in the upper half: quick to compare.
  const auto upper = [](int64_t pair) { return pair >> 32; };
  const auto lower = [](int64_t pair) { return pair & 0xFFFFFFFF; };
  std::vector<int64_t> by_cost(tiles.size());
  for (size_t i = 0; i < tiles.size(); ++i)
    by_cost[i] = -(cost_of(tiles[i]) << 32) + static_cast<int64_t>(i);
  std::sort(by_cost.begin(), by_cost.end());
  std::priority_queue<int64_t, std::vector<int64_t>, std::greater<>> loads;
  for (int32_t i = 0; i < std::min(n_blocks, static_cast<int32_t>(tiles.size())); ++i)
    loads.push(i);
  WholeTiles whole;
  whole.blocks.reserve(tiles.size());
  for (const int64_t pair : by_cost) {
    const int64_t least = loads.top(), load = upper(least) - upper(pair);
    loads.pop();
    loads.push(load << 32 | lower(least));
    whole.blocks.push_back(lower(least) << 32 | lower(pair));
    whole.capacity = std::max(whole.capacity, load);
  }
  std::sort(whole.blocks.begin(), whole.blocks.end());
  return whole;
}

// How many states a work over splits [begin, end) leaves, which does not hold all (CudaWork.state).
int32_t states_of(int32_t group, int32_t begin, int32_t end, bool first) {
  if (first) return end % group > 0 && end / group > begin / group ? 2 : 1;
  const int32_t opens = std::min(end, (begin + group - 1) / group * group);
  return opens - begin + (end - opens + group - 1) / group;
}

class Builder {
 public:
  Builder(const AttnShape& shape, const CudaTiling& tiling, size_t n_tiles) {
    plan_.shape = shape, plan_.tiling = tiling;
    works_.reserve(n_tiles + n_tiles / 2);
  }

  void take(const RowTile& tile, int32_t begin, int32_t end, int32_t block) {
    CudaWork work = tile;
    work.kv_begin = begin, work.kv_end = end;
    work.first = begin == tile.kv_begin;
    const bool whole = work.first && end == tile.kv_end;
    if (!whole) {
      const int32_t split = plan_.tiling.kv_split;
      const int32_t n_states =
          states_of(plan_.tiling.group, begin / split, (end - 1) / split + 1, work.first);
      if (work.first) merges_.push_back(merge_of(tile));
      work.state = n_states_;
      n_states_ += n_states;
      merges_.back().n_states += n_states;
    }
    while (static_cast<int32_t>(queue_.size()) <= block)
      queue_.push_back(static_cast<int32_t>(works_.size()));
    works_.push_back(work);
  }

  CudaPlan finish(std::span<const AttnSeq> seqs) {
    queue_.push_back(static_cast<int32_t>(works_.size()));
    plan_.n_seqs = static_cast<int32_t>(seqs.size());
    plan_.n_works = static_cast<int32_t>(works_.size());
    plan_.n_merges = static_cast<int32_t>(merges_.size());
    for (const CudaMerge& merge : merges_)
      plan_.most_states = std::max(plan_.most_states, merge.n_states);
    plan_.n_blocks = static_cast<int32_t>(queue_.size()) - 1;
    plan_.image.reserve(seqs.size_bytes() + works_.size() * sizeof(CudaWork) +
                        merges_.size() * sizeof(CudaMerge) + queue_.size() * sizeof(int32_t) +
                        4 * kAlign);
    append(seqs.data(), seqs.size_bytes());
    plan_.works_offset = append(works_.data(), works_.size() * sizeof(CudaWork));
    plan_.merges_offset = append(merges_.data(), merges_.size() * sizeof(CudaMerge));
    plan_.queue_offset = append(queue_.data(), queue_.size() * sizeof(int32_t));
    plan_.states_offset = static_cast<int64_t>(plan_.image.size());
    plan_.state_bytes =
        int64_t{plan_.tiling.rows} * (2 + plan_.shape.v_dim) * int64_t{sizeof(float)};
    plan_.workspace_bytes = plan_.states_offset + n_states_ * plan_.state_bytes;
    return std::move(plan_);
  }

 private:
  CudaMerge merge_of(const CudaWork& work) const {
    return {.seq = work.seq,
            .head_begin = work.head_begin,
            .n_heads = work.n_heads,
            .token_begin = work.token_begin,
            .token_end = work.token_end,
            .state = n_states_,
            .q_begin = work.q_begin};
  }

  int64_t append(const void* data, size_t bytes) {
    const size_t begin = plan_.image.size();
    plan_.image.resize((begin + bytes + kAlign - 1) / kAlign * kAlign);
    if (bytes > 0) std::memcpy(plan_.image.data() + begin, data, bytes);
    return static_cast<int64_t>(begin);
  }

  static constexpr size_t kAlign = 256;
  CudaPlan plan_;
  std::vector<CudaWork> works_;
  std::vector<CudaMerge> merges_;
  std::vector<int32_t> queue_;
  int32_t n_states_ = 0;
};

void check(const AttnShape& shape, const CudaTiling& tiling, std::span<const AttnSeq> seqs) {
  CHECK(shape.kv_heads >= 1 && shape.heads % shape.kv_heads == 0, "{} heads over {}", shape.heads,
        shape.kv_heads);
  CHECK(shape.k_dim >= 1 && shape.v_dim >= 1, "k {} v {}", shape.k_dim, shape.v_dim);
  CHECK(tiling.rows >= 1 && tiling.kv_split >= 0, "rows {} split {}", tiling.rows, tiling.kv_split);
  for (const AttnSeq& seq : seqs) {
    CHECK(seq.q_begin >= 0 && seq.q_len >= 0 && seq.q_len <= seq.kv_len, "q {}+{} kv {}",
          seq.q_begin, seq.q_len, seq.kv_len);
  }
}

// Splits of all tiles in fair shares, or, where that takes hardly longer, tiles as they are: one
// after the other where that is as good, for neighbours share pages, else the longest first.
void deal_fairly(const CudaTiling& tiling, const std::vector<RowTile>& tiles, int32_t n_sms,
                 Builder& builder) {
  const int32_t n_blocks = n_sms * tiling.blocks_per_sm;
  const auto n_tiles = static_cast<int64_t>(tiles.size());
  const auto take = [&](const RowTile& tile, int32_t begin, int32_t end, int32_t block) {
    builder.take(tile, begin, end, block);
  };
  const WholeTiles whole = deal_whole(tiles, n_blocks);
  // Of a multiprocessor: blocks that share one are that much slower.
  const int64_t n_shared = std::min<int64_t>((n_tiles + n_sms - 1) / n_sms, tiling.blocks_per_sm);
  const int64_t most = (whole.capacity * n_shared - kMergeTokens) * 16 / 17;
  int64_t total = 0;
  for (const RowTile& tile : tiles) total += cost_of(tile);
  if (total / n_sms < most) {
    const int64_t capacity = fair_capacity(tiling.kv_split, tiles, total, n_blocks);
    if (capacity * tiling.blocks_per_sm < most) {
      deal(tiling.kv_split, tiles, capacity, take);
      return;
    }
  }
  constexpr int32_t kWhole = 1 << 30;
  const int64_t hardly_more = whole.capacity + whole.capacity / 64;
  if (deal(kWhole, tiles, hardly_more, nothing) <= n_blocks) {
    deal(kWhole, tiles, hardly_more, take);
    return;
  }
  for (const int64_t pair : whole.blocks) {
    const RowTile& tile = tiles[static_cast<size_t>(pair & 0xFFFFFFFF)];
    take(tile, tile.kv_begin, tile.kv_end, static_cast<int32_t>(pair >> 32));
  }
}

}  // namespace

CudaPlan plan_cuda(const AttnShape& shape, const CudaTiling& tiling, std::span<const AttnSeq> seqs,
                   int n_sms) {
  CHECK(n_sms >= 1, "n_sms {}", n_sms);
  check(shape, tiling, seqs);
  std::vector<RowTile> tiles;
  tiles.reserve(seqs.size() * static_cast<size_t>(shape.kv_heads));
  for (size_t i = 0; i < seqs.size(); ++i)
    add_tiles(shape, tiling, seqs[i], static_cast<int32_t>(i), tiles);
  if (tiling.kv_split == 0) {  // the device's own scheduler deals the tiles, longest first
    std::stable_sort(tiles.begin(), tiles.end(), [](const RowTile& a, const RowTile& b) {
      return a.kv_end - a.kv_begin > b.kv_end - b.kv_begin;
    });
    Builder builder(shape, tiling, tiles.size());
    for (size_t i = 0; i < tiles.size(); ++i)
      builder.take(tiles[i], tiles[i].kv_begin, tiles[i].kv_end, static_cast<int32_t>(i));
    return builder.finish(seqs);
  }
  Builder builder(shape, tiling, tiles.size());
  if (!tiles.empty()) deal_fairly(tiling, tiles, n_sms, builder);
  return builder.finish(seqs);
}

}  // namespace ashlar
