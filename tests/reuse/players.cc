#include "players.h"

#include <algorithm>

namespace ashlar::reuse {

std::optional<Player::Start> CachePlayer::begin(size_t slot, std::span<const int32_t> tokens,
                                                std::span<const int32_t> marks) {
  Tables* tables = &tables_[slot];
  const auto n = static_cast<int32_t>(tokens.size());
  const int32_t n_found =
      cache_.match(tables, {.tokens = tokens, .salt = {}, .adapter = {}, .marks = marks});
  if (cache_.has_room(*tables, n, kStepTokens)) {
    if (const auto computed = step(slot, tokens, std::min(n, n_found + kStepTokens)))
      return Start{n_found, *computed};
  }
  cache_.release(tables);
  return std::nullopt;
}

std::optional<int32_t> CachePlayer::step(size_t slot, std::span<const int32_t> tokens,
                                         int32_t end) {
  Tables* tables = &tables_[slot];
  end = std::min(end, cache_.next_stop(*tables));
  if (!cache_.reserve(tables, end)) return std::nullopt;
  (void)cache_.take_copies();
  cache_.commit(tables, end, tokens);
  (void)cache_.take_copies();
  return end;
}

void CachePlayer::end(size_t slot) { cache_.release(&tables_[slot]); }

PoolOptions pool_options(const UniformPlan& plan, int32_t max_model_len) {
  PoolOptions options;
  for (const UniformGroup& group : plan.layout.groups) {
    options.groups.push_back({.kind = group.spec.kind,
                              .block_tokens = static_cast<int32_t>(group.spec.block_tokens),
                              .window = static_cast<int32_t>(group.spec.window)});
  }
  options.n_blocks = plan.layout.n_blocks;
  options.max_model_len = max_model_len;
  options.max_in_flight = kStepTokens;
  options.schedule_tokens = static_cast<int32_t>(plan.grain.schedule_tokens);
  options.hash_tokens = static_cast<int32_t>(plan.grain.hash_tokens);
  return options;
}

std::optional<Player::Start> PoolPlayer::begin(size_t slot, std::span<const int32_t> tokens,
                                               std::span<const int32_t>) {
  PoolRequest request = cache_.add({tokens.begin(), tokens.end()});
  cache_.look_up(&request);
  const int32_t n_found = request.hit.n_tokens;
  const int32_t rest = static_cast<int32_t>(tokens.size()) - n_found;
  const int32_t n = cache_.split(request, std::min(rest, kStepTokens));
  if (n == 0 || !cache_.allocate(&request, n, 0, true)) return std::nullopt;
  requests_[slot] = std::move(request);
  return Start{n_found, requests_[slot].n_computed};
}

std::optional<int32_t> PoolPlayer::step(size_t slot, std::span<const int32_t> tokens, int32_t end) {
  PoolRequest* request = &requests_[slot];
  cache_.append(request, tokens.subspan(request->tokens.size()));
  const int32_t n = cache_.split(*request, end - request->n_computed);
  if (!cache_.allocate(request, n, 0, false)) return std::nullopt;
  return request->n_computed;
}

void PoolPlayer::end(size_t slot) {
  cache_.free(&requests_[slot]);
  requests_[slot] = {};
}

}  // namespace ashlar::reuse
