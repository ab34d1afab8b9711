#include "kernels/attention/bench_testing.h"
#include "kernels/bench.h"
#include "kernels/testing.h"

namespace ashlar {
namespace {

struct Setup {
  const char* name;
  LatentShape shape;
  int32_t batch;
  int32_t q_len;
  int32_t kv_len;
  DType dtype = DType::bf16;
  DType compute = DType::bf16;
};

constexpr Setup kSetups[] = {
    {"decode", {16, 512, 64}, 1, 1, 8192},
    {"decode", {16, 512, 64}, 1, 1, 8192, DType::f8e4m3},
    {"decode", {16, 512, 64}, 8, 1, 8192},
    {"decode", {16, 512, 64}, 8, 1, 8192, DType::f8e4m3},
    {"decode", {128, 512, 64}, 1, 1, 8192},
    {"decode", {128, 512, 64}, 1, 1, 8192, DType::f8e4m3},
    {"prefill", {16, 512, 64}, 1, 256, 512},
    {"decode", {16, 512, 64}, 1, 1, 8192, DType::bf16, DType::f32},
    {"decode", {16, 512, 64}, 1, 1, 8192, DType::f8e4m3, DType::f32},
};

using Data = PagedBench<LatentParams>;

std::shared_ptr<Data> build(const Setup& setup, const std::shared_ptr<Buffer>& arena,
                            const Pool& pool) {
  const LatentShape& s = setup.shape;
  const int32_t width = s.latent + s.rope;
  auto data = std::make_shared<Data>();
  data->arena = arena;
  Random random(1);
  const int64_t n_tokens = int64_t{setup.batch} * setup.q_len;
  data->q = random.normal(n_tokens * s.heads * width);
  data->out.resize(static_cast<size_t>(n_tokens * s.heads * s.latent));
  data->deal(setup.batch, setup.q_len, setup.kv_len,
             int64_t{kBenchPageTokens} * width * size_of(setup.dtype),
             [&](std::span<const AttnSeq> seqs) { return plan_latent(s, seqs, pool.size()); });
  data->params = {.q = view(std::as_const(data->q), {n_tokens, s.heads, width}),
                  .out = view(data->out, {n_tokens, s.heads, s.latent}),
                  .kv = {.base = arena->data(),
                         .page_tokens = kBenchPageTokens,
                         .k_dim = width,
                         .dtype = setup.dtype},
                  .scale = 0.02f,
                  .compute = setup.compute,
                  .workspace = data->workspace.bytes()};
  return data;
}

}  // namespace

std::vector<BenchCase> latent_bench(const Ops& ops, Pool& pool) {
  std::vector<BenchCase> cases;
  const auto arena = bench_arena();
  for (const Setup& setup : kSetups) {
    const std::shared_ptr<Data> data = build(setup, arena, pool);
    cases.push_back(
        {.op = "latent",
         .shape = fmt::format("{} B={} q={} kv={} H={} {}+{} {} {}", setup.name, setup.batch,
                              setup.q_len, setup.kv_len, setup.shape.heads, setup.shape.latent,
                              setup.shape.rope, name(setup.dtype), name(setup.compute)),
         .roof = roof(data->plans[0], data->params),
         .bf16 = setup.compute == DType::bf16,
         .run = [&ops, &pool, data] { ops.latent(data->next_plan(), data->params, pool); }});
  }
  return cases;
}

}  // namespace ashlar
