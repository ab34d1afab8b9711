#include "world.h"

#include <algorithm>

#include "base/check.h"
#include "kv/replay_tags.h"

namespace ashlar::sim {
namespace {

constexpr size_t kMaxLives = 6;
constexpr size_t kMaxTexts = 24;
constexpr int32_t kMaxTokens = 260;
constexpr int32_t kStepTokens = 48;

}  // namespace

World::World(const Mix& mix) : cache_(*Cache::create(*mix.layout(), mix.options)) {
  cache_.poison_freed_pages(true);
  for (const CacheGroup& group : mix.groups) has_states_ |= group.kind == LayerKind::state;
  // System prompts that everybody may begin with.
  for (int32_t text = 0; text < 3; ++text) {
    texts_.emplace_back();
    for (int32_t i = 0; i < 37 + 30 * text; ++i) texts_.back().push_back(100 * text + i % 90);
  }
}

void World::apply(const Op& op) {
  ++clock_;
  Life* life = pick(op.arguments[0]);
  switch (op.verb) {
    case Verb::admit: admit(op); break;
    case Verb::run: run(); break;
    case Verb::refuse: cache_.refuse_demand(1 + op.arguments[0] % 4); break;
    default: break;
  }
  if (life != nullptr) {
    const bool idle = life->state == State::idle;
    switch (op.verb) {
      case Verb::resume: resume(life); break;
      case Verb::reserve: reserve(life, op); break;
      case Verb::commit: commit(life, op); break;
      case Verb::crop:
        if (idle) cache_.crop(&life->tables, life->tables.n_tokens);
        break;
      case Verb::fork:
        if (idle) fork(*life);
        break;
      case Verb::snapshot: {
        const int32_t page = cache_.block_tokens();
        const int32_t n = life->tables.n_tokens;
        if (idle && n > 0 && n % page == 0) (void)cache_.snapshot(&life->tables);
        break;
      }
      case Verb::preempt:
        if (life->state != State::written) stop(life);
        break;
      case Verb::finish:
        if (!idle) break;
        texts_.push_back(life->tokens);
        if (texts_.size() > kMaxTexts) texts_.erase(texts_.begin() + 3);
        remove(life);
        break;
      case Verb::cancel: remove(life); break;
      default: break;
    }
  }
  audit();
  if (clock_ % 64 == 0) {
    cache_.run_copies();
    check_cached();
  }
}

World::Life* World::pick(uint32_t argument) {
  return lives_.empty() ? nullptr : lives_[argument % lives_.size()].get();
}

World::Life* World::add(std::vector<int32_t> tokens, const std::string& salt) {
  lives_.push_back(std::make_unique<Life>());
  Life* life = lives_.back().get();
  life->salt = salt;
  for (const int32_t token : tokens) push(life, token);
  return life;
}

// A salt is part of the text, as far as sharing goes.
void World::push(Life* life, int32_t token) {
  const uint64_t before = life->tags.empty() ? 77 + life->salt.size() : life->tags.back();
  life->tokens.push_back(token);
  life->tags.push_back(next_tag(before, token));
}

void World::admit(const Op& op) {
  if (lives_.size() >= kMaxLives) return;
  const std::vector<int32_t>& text = texts_[op.arguments[0] % texts_.size()];
  // Mostly the whole of it, as in a conversation that goes on.
  const size_t n = op.arguments[1] % 4 > 0 ? text.size() : op.arguments[1] % (text.size() + 1);
  std::vector<int32_t> tokens(text.begin(), text.begin() + static_cast<long>(n));
  for (uint32_t i = 0; i < op.arguments[2] % 60; ++i) tokens.push_back(fresh_++);
  if (tokens.empty()) tokens.push_back(fresh_++);
  if (tokens.size() > kMaxTokens) tokens.resize(kMaxTokens);
  resume(add(tokens, op.arguments[3] % 8 == 0 ? "salt" : ""));
}

// What a fresh or preempted sequence finds of its own text.
void World::resume(Life* life) {
  if (life->state != State::waiting) return;
  const std::vector<int32_t> marks = {37, 67, 97};
  const auto n = static_cast<int32_t>(life->tokens.size());
  const int32_t hit = cache_.match(
      &life->tables, {.tokens = life->tokens, .salt = life->salt, .adapter = {}, .marks = marks});
  CHECK(hit == life->tables.n_tokens && hit < n, "a hit of {} of {} tokens", hit, n);
  CHECK(hit == n - 1 || hit % cache_.block_tokens() == 0, "a hit of {} tokens", hit);
  life->state = State::idle;
}

void World::reserve(Life* life, const Op& op) {
  if (life->state != State::idle) return;
  const CacheOptions& options = cache_.options();
  const int32_t begin = life->tables.n_tokens;
  const int32_t pending = life->n_known() - begin;
  int32_t end = begin + 1;
  if (pending > 1) {
    end =
        begin + std::min<int32_t>(pending, 1 + static_cast<int32_t>(op.arguments[1]) % kStepTokens);
    if (op.arguments[3] % 8 > 0) end = std::min(end, cache_.next_stop(life->tables));
  } else {
    life->n_drafts = static_cast<int32_t>(op.arguments[2]) % (options.slack_tokens + 1);
    // Half the drafts are what the model would say itself.
    for (int32_t i = 0; i < life->n_drafts; ++i)
      push(life, op.arguments[1] % 2 == 0 ? fresh_++ : static_cast<int32_t>(life->tags.back() % 3));
    end += life->n_drafts;
  }
  const int32_t slots = stateful() && life->n_drafts > 0 ? end - begin : 0;
  life->end = end;
  life->slots = slots;
  if (try_reserve(life, end, slots)) {
    life->state = State::reserved;
    return;
  }
  ++n_refused_;
  for (; life->n_drafts > 0; --life->n_drafts) life->tokens.pop_back(), life->tags.pop_back();
  // The latest gives way, or if it is the latest, itself.
  Life* victim = lives_.back().get();
  if (victim->state != State::written) stop(victim);
}

// All or nothing, and a promise of room is kept.
bool World::try_reserve(Life* life, int32_t end, int32_t slots) {
  const auto pages = life->tables.pages;
  const int64_t n_evicted = cache_.stats().n_evicted;
  const bool promised =
      cache_.has_room(life->tables, end, std::max(1, end - life->tables.n_tokens));
  const bool refuses = cache_.refuses_demand();
  if (cache_.reserve(&life->tables, end, slots)) return true;
  CHECK(refuses || !promised, "room for {} tokens was promised", end);
  CHECK(life->tables.pages == pages && cache_.stats().n_evicted == n_evicted,
        "a refused reservation changed something");
  return false;
}

void World::run() {
  cache_.run_copies();
  ++n_steps_;
  std::vector<const Life*> step;
  for (const auto& life : lives_) {
    if (life->state != State::reserved) continue;
    step.push_back(life.get());
    life->state = State::written;
  }
  for (const Life* life : step) {
    const std::string wrong = check_tags(cache_, life->tables, life->tags, life->tables.n_tokens);
    CHECK(wrong.empty(), "{}", wrong);
  }
  for (const Life* life : step) {
    write_tags(cache_, life->tables, life->tags, life->tables.n_tokens, life->end, life->slots);
  }
}

void World::commit(Life* life, const Op& op) {
  if (life->state != State::written) return;
  const int32_t n_accepted =
      life->n_drafts == 0 ? 0 : static_cast<int32_t>(op.arguments[1]) % (life->n_drafts + 1);
  const int32_t end = life->end - life->n_drafts + n_accepted;
  remember_blocks(*life, life->end);
  if (op.arguments[2] % 2 == 0 && !stateful()) {
    cache_.commit(&life->tables, life->end, life->tokens);
    cache_.crop(&life->tables, end);
  } else {
    cache_.commit(&life->tables, end, life->tokens);
  }
  const bool drafted = life->n_drafts > 0;
  for (int32_t n = life->n_drafts; n > n_accepted; --n)
    life->tokens.pop_back(), life->tags.pop_back();
  life->n_drafts = 0;
  life->state = State::idle;
  if (life->tables.n_tokens < life->n_known() && !drafted) return;
  CHECK(life->tables.n_tokens == life->n_known());
  // The model says one of two things, so that texts meet and part.
  push(life, static_cast<int32_t>((life->tags.back() + op.arguments[3] % 2) % 3));
  if (life->n_known() > kMaxTokens) remove(life);
}

void World::fork(const Life& from) {
  if (lives_.size() >= kMaxLives) return;
  Life* to = add(from.tokens, from.salt);
  if (cache_.fork(from.tables, &to->tables)) {
    to->state = State::idle;
  } else {
    lives_.pop_back();
  }
}

// Preempted: what it has not committed is forgotten.
void World::stop(Life* life) {
  for (; life->n_drafts > 0; --life->n_drafts) life->tokens.pop_back(), life->tags.pop_back();
  cache_.release(&life->tables);
  life->state = State::waiting;
}

void World::remove(Life* life) {
  cache_.release(&life->tables);
  std::erase_if(lives_, [&](const auto& other) { return other.get() == life; });
}

// What the pages of the blocks up to `end` carry, by the key the index gives them.
void World::remember_blocks(const Life& life, int32_t end) {
  const int32_t page = cache_.block_tokens();
  PrefixIndex keys(1, false, 0);
  Digest key = keys.root(life.salt, {});
  for (int32_t t = 0; t + page <= end; t += page) {
    key = keys.next_key(
        key, std::span(life.tokens).subspan(static_cast<size_t>(t), static_cast<size_t>(page)));
    written_.try_emplace(key, life.tags.begin() + t, life.tags.begin() + t + page);
  }
}

void World::check_cached() const {
  const PrefixIndex& index = cache_.index();
  for (NodeId id = 0; id < index.node_limit(); ++id) {
    if (!index.node(id).used) continue;
    size_t column = 0;
    for (size_t g = 0; g < cache_.groups().size(); ++g) {
      const CacheGroup& group = cache_.groups()[g];
      if (!group.has_tokens()) continue;
      for (int32_t at = 0; at < cache_.block_tokens(); at += group.page_tokens, ++column) {
        const uint32_t page = index.entry(id, column).page;
        if (page == kNoPage) continue;
        const auto written = written_.find(index.node(id).key);
        CHECK(written != written_.end(), "node {} stands for tokens nobody wrote", id);
        for (int32_t slot = 0; slot < group.page_tokens; ++slot) {
          CHECK(holds_tag(cache_, g, page, slot, written->second[static_cast<size_t>(at + slot)]),
                "group {}: a cached page {} carries another token at {}", g, page, slot);
        }
      }
    }
  }
}

void World::audit() const {
  std::vector<const Tables*> all;
  for (const auto& life : lives_) all.push_back(&life->tables);
  cache_.audit(all);
}

}  // namespace ashlar::sim
