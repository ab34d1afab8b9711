#include <algorithm>
#include <memory>
#include <numeric>

#include "kernels/bench.h"
#include "kernels/testing.h"
#include "tensor/buffer.h"

namespace ashlar {
namespace {

constexpr int32_t kPageTokens = 16;
// Pages of all cases, eight times the last-level cache of most machines. A case walks through it
// layer by layer, so that no call finds the last call's K and V in a cache.
constexpr int64_t kArenaBytes = int64_t{256} << 20;

struct Setup {
  const char* name;
  AttnShape shape;
  int32_t batch;
  int32_t q_len;
  int32_t kv_len;
  bool sinks;
  DType compute = DType::bf16;
  DType stored = DType::bf16;
};

constexpr Setup kSetups[] = {
    {"decode", {.heads = 64, .kv_heads = 4, .k_dim = 192, .v_dim = 128}, 1, 1, 8192, true},
    {"decode", {.heads = 64, .kv_heads = 4, .k_dim = 192, .v_dim = 128}, 8, 1, 8192, true},
    {"decode", {.heads = 32, .kv_heads = 8, .k_dim = 128, .v_dim = 128}, 1, 1, 8192, false},
    {"decode", {.heads = 32, .kv_heads = 32, .k_dim = 128, .v_dim = 128}, 1, 1, 4096, false},
    {"decode", {.heads = 64, .kv_heads = 1, .k_dim = 192, .v_dim = 128}, 1, 1, 32768, false},
    {"decode",
     {.heads = 64, .kv_heads = 8, .k_dim = 192, .v_dim = 128, .window = 128},
     8,
     1,
     1000,
     true},
    {"decode",
     {.heads = 32, .kv_heads = 8, .k_dim = 128, .v_dim = 128},
     1,
     1,
     8192,
     false,
     DType::bf16,
     DType::f8e4m3},
    {"decode",
     {.heads = 64, .kv_heads = 4, .k_dim = 192, .v_dim = 128},
     1,
     1,
     8192,
     true,
     DType::bf16,
     DType::f8e4m3},
    {"prefill", {.heads = 64, .kv_heads = 4, .k_dim = 192, .v_dim = 128}, 1, 512, 512, true},
    {"prefill",
     {.heads = 64, .kv_heads = 8, .k_dim = 192, .v_dim = 128, .window = 128},
     1,
     512,
     1024,
     true},
    {"prefill", {.heads = 32, .kv_heads = 8, .k_dim = 128, .v_dim = 128}, 1, 512, 4096, false},
    {"prefill", {.heads = 32, .kv_heads = 32, .k_dim = 128, .v_dim = 128}, 1, 512, 512, false},
    {"decode",
     {.heads = 64, .kv_heads = 4, .k_dim = 192, .v_dim = 128},
     1,
     1,
     8192,
     true,
     DType::f32},
    {"prefill",
     {.heads = 64, .kv_heads = 4, .k_dim = 192, .v_dim = 128},
     1,
     256,
     256,
     true,
     DType::f32},
};

// bf16 numbers around one, cheaply.
Buffer random_arena() {
  Buffer arena = Buffer::host(kArenaBytes, "bench arena").value();
  auto* words = reinterpret_cast<uint64_t*>(arena.data());
  uint64_t state = 88172645463325252u;
  for (int64_t i = 0; i < kArenaBytes / 8; ++i) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    // Keep signs and mantissas; exponents 2^-3 to 2^0.
    words[i] = (state & 0x81FF81FF81FF81FFu) | 0x3E003E003E003E00u;
  }
  return arena;
}

struct Data {
  std::shared_ptr<Buffer> arena;
  std::vector<float> q, out, sinks;
  std::vector<std::vector<uint32_t>> tables;  // per layer, all sequences' pages
  std::vector<AttnPlan> plans;                // per layer
  Buffer workspace;
  AttnParams params;
  size_t next = 0;
};

std::shared_ptr<Data> build(const Setup& setup, const std::shared_ptr<Buffer>& arena,
                            const Pool& pool) {
  const AttnShape& s = setup.shape;
  auto data = std::make_shared<Data>();
  data->arena = arena;
  Random random(1);
  const int64_t n_tokens = int64_t{setup.batch} * setup.q_len;
  data->q = random.normal(n_tokens * s.heads * s.k_dim);
  data->out.resize(static_cast<size_t>(n_tokens * s.heads * s.v_dim));
  data->sinks = random.normal(s.heads);
  PagedView kv{.base = arena->data(),
               .page_tokens = kPageTokens,
               .kv_heads = s.kv_heads,
               .k_dim = s.k_dim,
               .v_dim = s.v_dim,
               .dtype = setup.stored};
  const int64_t token_bytes = int64_t{s.kv_heads} * size_of(setup.stored);
  kv.v_offset_bytes = token_bytes * kPageTokens * s.k_dim;
  const int64_t page_bytes = token_bytes * kPageTokens * (s.k_dim + s.v_dim);
  std::vector<uint32_t> places(static_cast<size_t>(kArenaBytes / page_bytes));
  for (size_t i = 0; i < places.size(); ++i) {
    places[i] = static_cast<uint32_t>(static_cast<int64_t>(i) * page_bytes / kGranuleBytes);
  }
  std::shuffle(places.begin(), places.end(), std::mt19937_64(1));
  const size_t seq_pages = static_cast<size_t>((setup.kv_len + kPageTokens - 1) / kPageTokens);
  const size_t layer_pages = seq_pages * static_cast<size_t>(setup.batch);
  CHECK(layer_pages <= places.size(), "{} pages", layer_pages);
  for (size_t at = 0; at + layer_pages <= places.size(); at += layer_pages) {
    data->tables.emplace_back(places.begin() + static_cast<int64_t>(at),
                              places.begin() + static_cast<int64_t>(at + layer_pages));
  }
  for (const std::vector<uint32_t>& table : data->tables) {
    std::vector<AttnSeq> seqs;
    for (int32_t b = 0; b < setup.batch; ++b) {
      seqs.push_back({.q_begin = b * setup.q_len,
                      .q_len = setup.q_len,
                      .kv_len = setup.kv_len,
                      .pages = table.data() + static_cast<size_t>(b) * seq_pages});
    }
    data->plans.push_back(plan_attention(s, seqs, pool.size()));
  }
  data->workspace =
      Buffer::host(static_cast<size_t>(data->plans[0].workspace_bytes), "workspace").value();
  data->params = {.q = view(std::as_const(data->q), {n_tokens, s.heads, s.k_dim}),
                  .out = view(data->out, {n_tokens, s.heads, s.v_dim}),
                  .kv = kv,
                  .scale = 0.1f,
                  .sinks = setup.sinks ? data->sinks.data() : nullptr,
                  .compute = setup.compute,
                  .workspace = data->workspace.bytes()};
  return data;
}

}  // namespace

std::vector<BenchCase> attention_bench(const Ops& ops, Pool& pool) {
  std::vector<BenchCase> cases;
  const auto arena = std::make_shared<Buffer>(random_arena());
  for (const Setup& setup : kSetups) {
    const std::shared_ptr<Data> data = build(setup, arena, pool);
    const AttnShape& s = setup.shape;
    cases.push_back(
        {.op = "attention",
         .shape = fmt::format("{} B={} q={} kv={} H={} G={} {}/{}{}{} {}{}", setup.name,
                              setup.batch, setup.q_len, setup.kv_len, s.heads, s.kv_heads, s.k_dim,
                              s.v_dim, s.window > 0 ? fmt::format(" window {}", s.window) : "",
                              setup.sinks ? " sinks" : "", name(setup.compute),
                              is_f8(setup.stored) ? " fp8 pages" : ""),
         .roof = roof(data->plans[0], data->params),
         .bf16 = setup.compute == DType::bf16,
         .run = [&ops, &pool, data] {
           ops.attention(data->plans[data->next], data->params, pool);
           data->next = (data->next + 1) % data->plans.size();
         }});
  }
  return cases;
}

}  // namespace ashlar
