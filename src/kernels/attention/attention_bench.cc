#include "kernels/attention/bench_testing.h"
#include "kernels/bench.h"
#include "kernels/testing.h"

namespace ashlar {
namespace {

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

using Data = PagedBench<AttnParams>;

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
               .page_tokens = kBenchPageTokens,
               .kv_heads = s.kv_heads,
               .k_dim = s.k_dim,
               .v_dim = s.v_dim,
               .dtype = setup.stored};
  const int64_t token_bytes = int64_t{s.kv_heads} * size_of(setup.stored);
  kv.v_offset_bytes = token_bytes * kBenchPageTokens * s.k_dim;
  const int64_t page_bytes = token_bytes * kBenchPageTokens * (s.k_dim + s.v_dim);
  data->deal(setup.batch, setup.q_len, setup.kv_len, page_bytes,
             [&](std::span<const AttnSeq> seqs) { return plan_attention(s, seqs, pool.size()); });
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
  const auto arena = bench_arena();
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
         .run = [&ops, &pool, data] { ops.attention(data->next_plan(), data->params, pool); }});
  }
  return cases;
}

}  // namespace ashlar
