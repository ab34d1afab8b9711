#pragma once

// A sequence as an engine would drive it, without a model: for tests of the cache.

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <numeric>
#include <vector>

#include "kv/cache.h"

namespace ashlar {

struct TestSequence {
  std::vector<int32_t> tokens;
  Tables tables;
};

// n tokens that no other `text` has.
inline std::vector<int32_t> text_of(int32_t text, int32_t n) {
  std::vector<int32_t> tokens(static_cast<size_t>(n));
  std::iota(tokens.begin(), tokens.end(), 100000 * text);
  return tokens;
}

inline std::vector<int32_t> operator+(std::vector<int32_t> head, const std::vector<int32_t>& tail) {
  head.insert(head.end(), tail.begin(), tail.end());
  return head;
}

// Matches the prompt; returns the hit.
inline int32_t begin(Cache* cache, TestSequence* s, std::vector<int32_t> tokens,
                     std::string_view salt = {}, std::vector<int32_t> marks = {}) {
  s->tokens = std::move(tokens);
  return cache->match(&s->tables, {.tokens = s->tokens, .salt = salt, .marks = marks});
}

// Computes its tokens in steps of at most `step`, stopping where the cache asks. False at a
// refusal.
inline bool compute(Cache* cache, TestSequence* s, int32_t step = 48) {
  const auto n = static_cast<int32_t>(s->tokens.size());
  while (s->tables.n_tokens < n) {
    const int32_t end = std::min({n, s->tables.n_tokens + step, cache->next_stop(s->tables)});
    if (!cache->reserve(&s->tables, end)) return false;
    cache->run_copies();
    cache->commit(&s->tables, end, s->tokens);
  }
  return true;
}

// begin, compute and release: what a finished request leaves behind. Returns the hit.
inline int32_t serve(Cache* cache, std::vector<int32_t> tokens, std::string_view salt = {},
                     std::vector<int32_t> marks = {}) {
  TestSequence s;
  const int32_t hit = begin(cache, &s, std::move(tokens), salt, std::move(marks));
  EXPECT_TRUE(compute(cache, &s));
  cache->release(&s.tables);
  return hit;
}

// What a prompt would hit, leaving things as they are but for their age.
inline int32_t peek(Cache* cache, std::vector<int32_t> tokens, std::string_view salt = {}) {
  TestSequence s;
  const int32_t hit = begin(cache, &s, std::move(tokens), salt);
  cache->release(&s.tables);
  return hit;
}

}  // namespace ashlar
