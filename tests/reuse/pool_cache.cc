#include "pool_cache.h"

#include <algorithm>

#include "base/checked.h"
#include "prefix_hash.h"

namespace ashlar::reuse {

PoolCache::PoolCache(PoolOptions options) : options_(std::move(options)), pool_(options_.n_blocks) {
  for (size_t g = 0; g < options_.groups.size(); ++g) {
    const PoolGroup& group = options_.groups[g];
    has_states_ |= group.kind == UniformKind::state;
    const auto same = std::find_if(kinds_.begin(), kinds_.end(), [&](const auto& groups) {
      return options_.groups[groups[0]] == group;
    });
    if (same == kinds_.end()) {
      kinds_.push_back({g});
    } else {
      same->push_back(g);
    }
  }
  std::stable_partition(kinds_.begin(), kinds_.end(),
                        [&](const auto& groups) { return options_.groups[groups[0]].keeps_all(); });
}

PoolRequest PoolCache::add(std::vector<int32_t> prompt) const {
  const size_t n_groups = options_.groups.size();
  PoolRequest request;
  request.n_prompt = static_cast<int32_t>(prompt.size());
  request.tokens = std::move(prompt);
  request.hashes = prefix_hashes(request.tokens, options_.hash_tokens);
  request.blocks.resize(n_groups);
  request.n_keyed.assign(n_groups, 0);
  request.last_state.assign(n_groups, -1);
  return request;
}

void PoolCache::append(PoolRequest* request, std::span<const int32_t> tokens) const {
  request->tokens.insert(request->tokens.end(), tokens.begin(), tokens.end());
  add_prefix_hashes(request->tokens, options_.hash_tokens, &request->hashes);
}

// A block is found by the hash at its end.
int32_t PoolCache::find(const PoolRequest& request, size_t group, int32_t block) const {
  const int32_t scale = options_.groups[group].block_tokens / options_.hash_tokens;
  const auto at = static_cast<size_t>((block + 1) * scale - 1);
  if (at >= request.hashes.size()) return kNoBlock;
  return pool_.find(next_hash(request.hashes[at], static_cast<int64_t>(group)));
}

bool PoolCache::find_all(const PoolRequest& request, std::span<const size_t> groups, int32_t block,
                         Lists* blocks) const {
  for (const size_t g : groups) {
    if (find(request, g, block) == kNoBlock) return false;
  }
  for (const size_t g : groups) (*blocks)[g][static_cast<size_t>(block)] = find(request, g, block);
  return true;
}

// Of one kind, at most `most` tokens. Leaves the blocks of the hit in `blocks`.
int32_t PoolCache::longest_hit(const PoolRequest& request, std::span<const size_t> groups,
                               int32_t most, Lists* blocks) const {
  const PoolGroup& group = options_.groups[groups[0]];
  const int32_t tokens = group.block_tokens;
  const int32_t n_most = most / tokens;
  const auto aligned = [&](int32_t n) { return n * tokens % options_.schedule_tokens == 0; };
  for (const size_t g : groups) (*blocks)[g].assign(static_cast<size_t>(n_most), kNoBlock);
  int32_t n = 0;
  if (group.keeps_all()) {
    while (n < n_most && find_all(request, groups, n, blocks)) ++n;
    while (!aligned(n)) --n;
  } else if (group.kind == UniformKind::window) {
    const int32_t need = static_cast<int32_t>(ceil_div(group.window - 1, tokens));
    int32_t run = 0, block = n_most - 1;
    for (; block >= 0; --block) {
      if (run == 0 && !aligned(block + 1)) continue;
      run = find_all(request, groups, block, blocks) ? run + 1 : 0;
      if (run >= std::max(1, need)) break;
    }
    n = std::max(0, block) + run;
    if (block < 0) {
      while (!aligned(n)) --n;
    }
  } else {
    for (n = n_most; n > 0; --n) {
      if (aligned(n) && find_all(request, groups, n - 1, blocks)) break;
    }
  }
  for (const size_t g : groups) (*blocks)[g].resize(static_cast<size_t>(n));
  return n * tokens;
}

void PoolCache::look_up(PoolRequest* request) const {
  PoolHit& hit = request->hit;
  hit = {};
  hit.n_tokens = static_cast<int32_t>(request->tokens.size()) - 1;
  hit.blocks.resize(options_.groups.size());
  int32_t longest = 0;
  std::vector<int32_t> whole(kinds_.size(), -1);
  while (true) {
    int32_t now = hit.n_tokens;
    for (size_t k = 0; k < kinds_.size(); ++k) {
      const bool keeps_all = options_.groups[kinds_[k][0]].keeps_all();
      if (keeps_all && whole[k] >= 0) {
        now = std::min(now, whole[k]);
        continue;
      }
      now = whole[k] = longest_hit(*request, kinds_[k], now, &hit.blocks);
      longest = std::max(longest, now);
    }
    const bool settled = now >= hit.n_tokens;
    hit.n_tokens = now;
    if (settled || kinds_.size() == 1) break;
    if (kinds_.size() == 2 && options_.groups[kinds_[0][0]].keeps_all()) break;
  }
  for (size_t g = 0; g < hit.blocks.size(); ++g) {
    const int32_t tokens = options_.groups[g].block_tokens;
    hit.blocks[g].resize(static_cast<size_t>(hit.n_tokens / tokens));
  }
  hit.branch = longest > hit.n_tokens && kinds_.size() > 1 ? longest : 0;
}

int32_t PoolCache::split(const PoolRequest& request, int32_t n) const {
  const auto n_tokens = static_cast<int32_t>(request.tokens.size());
  const int32_t block = options_.schedule_tokens;
  const int32_t start = request.n_computed + request.hit.n_tokens;
  if (!has_states_ || start >= std::max(request.n_prompt, n_tokens - 1)) return n;
  const int32_t last = n_tokens - n_tokens % block;
  int32_t end = start + n;
  if (end < last) end = end / block * block;
  const auto stop_at = [&](int32_t stop) {
    if (start < stop && stop < end) end = stop;
  };
  const int32_t next = static_cast<int32_t>(round_up(start, block));
  const int32_t branch = request.hit.branch;
  const bool branches = start < branch && branch < end;
  if (start % block != 0 && next <= last) stop_at(next);
  stop_at(last);
  if (branches) stop_at(start + (branch - start) / block * block);
  return std::max(0, end - start);
}

int32_t PoolCache::skipped_tokens(const PoolGroup& group, int32_t n) const {
  if (group.keeps_all()) return 0;
  return std::max(0, group.kind == UniformKind::state ? n - 1 : n - group.window + 1);
}

// Blocks that leave the queue so that the group holds n tokens, of which `computed` are known.
int64_t PoolCache::blocks_needed(const PoolRequest& request, size_t g, int32_t computed, int32_t n,
                                 int32_t with_lookahead, bool capped) const {
  const PoolGroup& group = options_.groups[g];
  const auto& hit = request.hit.blocks;
  const auto n_hit = request.admitted || hit.empty() ? 0 : static_cast<int64_t>(hit[g].size());
  const auto n_held = static_cast<int64_t>(request.blocks[g].size());
  const auto idle = [&](int64_t first) {
    int64_t count = 0;
    for (int64_t i = first; i < n_hit; ++i) {
      const int32_t block = hit[g][static_cast<size_t>(i)];
      count += block != kNoBlock && !pool_.in_use(block);
    }
    return count;
  };
  if (group.kind == UniformKind::state) {
    if (n_hit > 0 && std::count(keyed_this_step_.begin(), keyed_this_step_.end(), hit[g].back()))
      return options_.n_blocks + 1;
    // The running state, whatever lies between.
    return (ceil_div(n, group.block_tokens) > n_hit + n_held) + idle(0);
  }
  int64_t required = ceil_div(with_lookahead, group.block_tokens);
  if (capped && group.kind == UniformKind::window) {
    const int64_t most =
        std::min(group.window - 1 + options_.max_in_flight, options_.max_model_len);
    required = std::min(required, ceil_div(most, group.block_tokens) + 1);
  }
  if (request.admitted) return std::max<int64_t>(0, required - n_held);
  const int64_t skipped = skipped_tokens(group, computed) / group.block_tokens;
  return std::max<int64_t>(0, required - std::max(skipped, n_hit + n_held)) + idle(skipped);
}

bool PoolCache::allocate(PoolRequest* request, int32_t n, int32_t lookahead, bool all_must_fit) {
  const int32_t computed = request->n_computed + (request->admitted ? 0 : request->hit.n_tokens);
  const auto known = static_cast<int32_t>(request->tokens.size());
  const int32_t end = computed + n;
  const int32_t with_lookahead = std::min(end + lookahead, options_.max_model_len);
  const auto needed = [&](int32_t to, int32_t reserved, bool capped) {
    int64_t blocks = 0;
    for (size_t g = 0; g < options_.groups.size(); ++g)
      blocks += blocks_needed(*request, g, computed, to, reserved, capped);
    return blocks;
  };
  const int32_t whole = std::min(known, options_.max_model_len);
  if (all_must_fit && needed(whole, whole, true) > pool_.n_free()) return false;
  drop_skipped(request, computed);
  if (needed(end, with_lookahead, false) > pool_.n_free()) return false;
  if (!request->admitted) take_hit(request);
  for (size_t g = 0; g < options_.groups.size(); ++g) add_blocks(request, g, end, with_lookahead);
  request->admitted = true;
  request->hit.n_tokens = 0;
  request->hit.blocks.clear();
  request->n_computed = end;
  key_blocks(request, std::min(end, known));
  return true;
}

// Blocks behind the window, and states but the last two, leave the request.
void PoolCache::drop_skipped(PoolRequest* request, int32_t computed) {
  for (size_t g = 0; g < options_.groups.size(); ++g) {
    const PoolGroup& group = options_.groups[g];
    auto& blocks = request->blocks[g];
    std::vector<int32_t> dropped;
    auto i = std::min<int64_t>(skipped_tokens(group, computed) / group.block_tokens,
                               static_cast<int64_t>(blocks.size()));
    for (; i > 0 && blocks[static_cast<size_t>(i - 1)] != kNoBlock; --i)
      dropped.push_back(std::exchange(blocks[static_cast<size_t>(i - 1)], kNoBlock));
    pool_.free(dropped);
    const int32_t last = request->last_state[g];
    if (last < 0 || last >= ceil_div(computed, group.block_tokens) - 1) continue;
    const int32_t state = std::exchange(blocks[static_cast<size_t>(last)], kNoBlock);
    pool_.free({&state, 1});
  }
}

void PoolCache::take_hit(PoolRequest* request) {
  for (size_t g = 0; g < options_.groups.size(); ++g) {
    if (request->hit.blocks.empty()) continue;
    const PoolGroup& group = options_.groups[g];
    const auto skipped =
        static_cast<size_t>(skipped_tokens(group, request->hit.n_tokens) / group.block_tokens);
    for (size_t i = 0; i < request->hit.blocks[g].size(); ++i) {
      const int32_t block = i < skipped ? kNoBlock : request->hit.blocks[g][i];
      if (block != kNoBlock) pool_.hold(block);
      request->blocks[g].push_back(block);
    }
    request->n_keyed[g] = static_cast<int32_t>(request->blocks[g].size());
  }
}

void PoolCache::add_blocks(PoolRequest* request, size_t g, int32_t n, int32_t with_lookahead) {
  const PoolGroup& group = options_.groups[g];
  auto& blocks = request->blocks[g];
  const bool state = group.kind == UniformKind::state;
  const auto size = static_cast<size_t>(ceil_div(state ? n : with_lookahead, group.block_tokens));
  if (state && size > blocks.size()) {
    if (!blocks.empty()) request->last_state[g] = static_cast<int32_t>(blocks.size()) - 1;
    blocks.resize(size - 1, kNoBlock);
  }
  while (blocks.size() < size) blocks.push_back(pool_.take());
}

void PoolCache::key_blocks(PoolRequest* request, int32_t end) {
  if (kinds_.size() > 1) end -= end % options_.schedule_tokens;
  for (size_t g = 0; g < options_.groups.size(); ++g) {
    const PoolGroup& group = options_.groups[g];
    const int32_t per_segment = options_.schedule_tokens / group.block_tokens;
    const int32_t need = group.kind == UniformKind::window
                             ? static_cast<int32_t>(ceil_div(group.window - 1, group.block_tokens))
                             : per_segment;
    const int32_t scale = group.block_tokens / options_.hash_tokens;
    for (int32_t& i = request->n_keyed[g]; i < end / group.block_tokens; ++i) {
      const int32_t block = request->blocks[g][static_cast<size_t>(i)];
      if (block == kNoBlock || (need < per_segment && i % per_segment < per_segment - need))
        continue;
      const uint64_t hash = request->hashes[static_cast<size_t>((i + 1) * scale - 1)];
      pool_.set_key(block, next_hash(hash, static_cast<int64_t>(g)));
      if (group.kind == UniformKind::state) keyed_this_step_.push_back(block);
    }
  }
}

void PoolCache::free(PoolRequest* request) {
  for (auto& blocks : request->blocks) {
    std::reverse(blocks.begin(), blocks.end());
    pool_.free(blocks);
    blocks.clear();
  }
}

}  // namespace ashlar::reuse
