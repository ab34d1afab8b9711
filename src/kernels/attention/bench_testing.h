#pragma once

// What the benches of attention over pages share: an arena full of numbers, and layers dealt from
// its pages, so that a case walks through it and no call finds the last call's rows in a cache.

#include <algorithm>
#include <memory>
#include <random>
#include <vector>

#include "base/checked.h"
#include "kernels/attention/attention.h"
#include "tensor/buffer.h"

namespace ashlar {

constexpr int32_t kBenchPageTokens = 16;
// Pages of all cases, eight times the last-level cache of most machines.
constexpr int64_t kBenchArenaBytes = int64_t{256} << 20;

// Numbers around one, in bf16 and in e4m3, cheaply.
inline std::shared_ptr<Buffer> bench_arena() {
  auto arena = std::make_shared<Buffer>(Buffer::host(kBenchArenaBytes, "bench arena").value());
  auto* words = reinterpret_cast<uint64_t*>(arena->data());
  uint64_t state = 88172645463325252u;
  for (int64_t i = 0; i < kBenchArenaBytes / 8; ++i) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    // Of bf16 keep signs and mantissas, exponents 2^-3 to 2^0; the low bytes stay e4m3 numbers.
    words[i] = (state & 0x81BF81BF81BF81BFu) | 0x3E003E003E003E00u;
  }
  return arena;
}

// The arena's pages in random order, dealt to layers until they are used up.
inline std::vector<std::vector<uint32_t>> deal_pages(int64_t page_bytes, size_t layer_pages) {
  std::vector<uint32_t> places(static_cast<size_t>(kBenchArenaBytes / page_bytes));
  for (size_t i = 0; i < places.size(); ++i) {
    places[i] = static_cast<uint32_t>(static_cast<int64_t>(i) * page_bytes / kGranuleBytes);
  }
  std::shuffle(places.begin(), places.end(), std::mt19937_64(1));
  CHECK(layer_pages <= places.size(), "{} pages", layer_pages);
  std::vector<std::vector<uint32_t>> tables;
  for (size_t at = 0; at + layer_pages <= places.size(); at += layer_pages) {
    tables.emplace_back(places.begin() + static_cast<int64_t>(at),
                        places.begin() + static_cast<int64_t>(at + layer_pages));
  }
  return tables;
}

// A case's data, which its `run` keeps alive.
template <class Params>
struct PagedBench {
  std::shared_ptr<Buffer> arena;
  std::vector<float> q, out, sinks;
  std::vector<std::vector<uint32_t>> tables;  // per layer, all sequences' pages
  std::vector<AttnPlan> plans;                // per layer
  Buffer workspace;
  Params params;
  size_t next = 0;

  // Tables and plans of all layers, and the workspace. plan: AttnPlan(std::span<const AttnSeq>).
  template <class Plan>
  void deal(int32_t batch, int32_t q_len, int32_t kv_len, int64_t page_bytes, const Plan& plan) {
    const size_t seq_pages = static_cast<size_t>(ceil_div(kv_len, kBenchPageTokens));
    tables = deal_pages(page_bytes, seq_pages * static_cast<size_t>(batch));
    for (const std::vector<uint32_t>& table : tables) {
      std::vector<AttnSeq> seqs;
      for (int32_t b = 0; b < batch; ++b) {
        seqs.push_back({.q_begin = b * q_len,
                        .q_len = q_len,
                        .kv_len = kv_len,
                        .pages = table.data() + static_cast<size_t>(b) * seq_pages});
      }
      plans.push_back(plan(seqs));
    }
    workspace = Buffer::host(static_cast<size_t>(plans[0].workspace_bytes), "workspace").value();
  }

  const AttnPlan& next_plan() { return plans[next++ % plans.size()]; }
};

}  // namespace ashlar
