// What the cache's books cost, without any bytes moved: one JSON line per measurement.
//
//   cache_bench            prompts of 1k to 1M tokens, cold and warm; one decode step of 256
//                          sequences; the same in an arena full of cached pages

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <numeric>
#include <vector>

#include "kv/cache.h"

namespace ashlar {
namespace {

constexpr int32_t kChunk = 8192;  // tokens of a prefill step

struct Geometry {
  const char* name;
  std::vector<CacheGroup> groups;
};

CacheGroup group(LayerKind kind, int32_t n_layers, int32_t kv_heads, int32_t k_dim, int32_t v_dim,
                 int32_t window = 0, int64_t state_bytes = 0) {
  CacheGroup g{.kind = kind,
               .kv_heads = kv_heads,
               .k_dim = k_dim,
               .v_dim = v_dim,
               .window = window,
               .state_bytes = state_bytes};
  g.layers.resize(static_cast<size_t>(n_layers));
  return g;
}

// Published geometries, one per mix of kinds.
std::vector<Geometry> geometries() {
  using enum LayerKind;
  return {{"full", {group(full, 32, 8, 128, 128)}},
          {"full+window", {group(full, 9, 4, 192, 128), group(window, 39, 8, 192, 128, 128)}},
          {"full+window+draft",
           {group(full, 9, 4, 192, 128), group(window, 39, 8, 192, 128, 128),
            group(full, 5, 2, 128, 128)}},
          {"latent", {group(latent, 61, 1, 576, 0)}},
          {"full+state", {group(full, 10, 2, 256, 256), group(state, 30, 0, 0, 0, 0, 2146304)}}};
}

double microseconds(const std::function<void()>& act) {
  const auto start = std::chrono::steady_clock::now();
  act();
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start)
      .count();
}

struct Sequence {
  std::vector<int32_t> tokens;
  Tables tables;
};

std::vector<int32_t> text_of(int32_t text, int32_t n) {
  std::vector<int32_t> tokens(static_cast<size_t>(n));
  std::iota(tokens.begin(), tokens.end(), text << 20);
  return tokens;
}

// Matches, reserves and commits a prompt; the copies it asks for are dropped, not executed.
void prefill(Cache* cache, Sequence* s) {
  cache->match(&s->tables, {.tokens = s->tokens, .salt = {}, .adapter = {}, .marks = {}});
  const auto n = static_cast<int32_t>(s->tokens.size());
  while (s->tables.n_tokens < n) {
    const int32_t end = std::min({n, s->tables.n_tokens + kChunk, cache->next_stop(s->tables)});
    CHECK(cache->reserve(&s->tables, end), "no room for {} tokens", end);
    (void)cache->take_copies();
    cache->commit(&s->tables, end, s->tokens);
  }
}

// The median of several texts; each is served cold and then warm.
void bench_prompts(const Geometry& geometry, int64_t memory_bytes, const char* arena) {
  Cache cache = *Cache::create(geometry.groups, memory_bytes);
  int32_t text = 1;
  // An arena full of other texts' pages: every page that a prompt takes is evicted first.
  const bool full = std::string_view(arena) == "full of cached pages";
  while (full && cache.stats().n_evicted == 0) {
    Sequence s{text_of(text++, 131072), {}};
    prefill(&cache, &s);
    cache.release(&s.tables);
  }
  for (int32_t n = 1024; n <= (1 << 20); n *= 2) {
    std::vector<double> cold, warm, release;
    for (int i = 0; i < 5; ++i) {
      Sequence s{text_of(text++, n), {}};
      cold.push_back(microseconds([&] { prefill(&cache, &s); }));
      release.push_back(microseconds([&] { cache.release(&s.tables); }));
      warm.push_back(microseconds([&] { prefill(&cache, &s); }));
      cache.release(&s.tables);
    }
    for (auto* times : {&cold, &warm, &release}) std::sort(times->begin(), times->end());
    std::printf(
        "{\"bench\":\"kv.prompt\",\"geometry\":\"%s\",\"arena\":\"%s\",\"tokens\":%d,"
        "\"cold_us\":%.1f,\"warm_us\":%.1f,\"release_us\":%.1f,\"cold_ns_per_token\":%.2f}\n",
        geometry.name, arena, n, cold[2], warm[2], release[2], cold[2] * 1000 / n);
  }
}

// One step of decode: reserve and commit one token of each sequence. Averaged over a page's worth
// of steps and more, so that publishing and windows are in.
void bench_decode(const Geometry& geometry, int64_t memory_bytes) {
  constexpr int kSequences = 256, kSteps = 160;
  Cache cache = *Cache::create(geometry.groups, memory_bytes);
  std::vector<Sequence> sequences(kSequences);
  for (int32_t i = 0; i < kSequences; ++i) {
    sequences[static_cast<size_t>(i)].tokens = text_of(i + 1, 4000 + i % 16);
    prefill(&cache, &sequences[static_cast<size_t>(i)]);
  }
  std::vector<double> steps;
  for (int step = 0; step < kSteps; ++step) {
    for (Sequence& s : sequences) s.tokens.push_back(step);
    steps.push_back(microseconds([&] {
      for (Sequence& s : sequences) {
        const int32_t end = s.tables.n_tokens + 1;
        CHECK(cache.reserve(&s.tables, end), "no room to decode");
      }
      for (Sequence& s : sequences) cache.commit(&s.tables, s.tables.n_tokens + 1, s.tokens);
      (void)cache.take_copies();
    }));
  }
  const double mean = std::accumulate(steps.begin(), steps.end(), 0.0) / kSteps;
  std::sort(steps.begin(), steps.end());
  std::printf(
      "{\"bench\":\"kv.decode_step\",\"geometry\":\"%s\",\"sequences\":%d,\"mean_us\":%.2f,"
      "\"median_us\":%.2f,\"worst_us\":%.2f}\n",
      geometry.name, kSequences, mean, steps[kSteps / 2], steps.back());
  for (Sequence& s : sequences) cache.release(&s.tables);
}

}  // namespace
}  // namespace ashlar

int main() {
  for (const ashlar::Geometry& geometry : ashlar::geometries()) {
    ashlar::bench_prompts(geometry, int64_t{800} << 30, "empty");
    ashlar::bench_prompts(geometry, int64_t{400} << 30, "full of cached pages");
    ashlar::bench_decode(geometry, int64_t{400} << 30);
  }
}
