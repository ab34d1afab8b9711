#include <algorithm>
#include <memory>
#include <random>

#include "kernels/bench.h"
#include "kernels/testing.h"
#include "tensor/buffer.h"

namespace ashlar {
namespace {

constexpr int32_t kPageTokens = 16;
// Pages of all cases, eight times the last-level cache of most machines. A case walks through it
// layer by layer, so that no call finds the last call's rows in a cache.
constexpr int64_t kArenaBytes = int64_t{256} << 20;

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

// Numbers around one, in bf16 and in e4m3, cheaply.
Buffer random_arena() {
  Buffer arena = Buffer::host(kArenaBytes, "bench arena").value();
  auto* words = reinterpret_cast<uint64_t*>(arena.data());
  uint64_t state = 88172645463325252u;
  for (int64_t i = 0; i < kArenaBytes / 8; ++i) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    // Of bf16 keep signs and mantissas, exponents 2^-3 to 2^0; the low bytes stay e4m3 numbers.
    words[i] = (state & 0x81BF81BF81BF81BFu) | 0x3E003E003E003E00u;
  }
  return arena;
}

struct Data {
  std::shared_ptr<Buffer> arena;
  std::vector<float> q, out;
  std::vector<std::vector<uint32_t>> tables;  // per layer, all sequences' pages
  std::vector<AttnPlan> plans;                // per layer
  Buffer workspace;
  LatentParams params;
  size_t next = 0;
};

// The arena's pages in random order, dealt to layers until they are used up.
std::vector<std::vector<uint32_t>> deal_pages(int64_t page_bytes, size_t layer_pages) {
  std::vector<uint32_t> places(static_cast<size_t>(kArenaBytes / page_bytes));
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
  const size_t seq_pages = static_cast<size_t>((setup.kv_len + kPageTokens - 1) / kPageTokens);
  data->tables = deal_pages(int64_t{kPageTokens} * width * size_of(setup.dtype),
                            seq_pages * static_cast<size_t>(setup.batch));
  for (const std::vector<uint32_t>& table : data->tables) {
    std::vector<AttnSeq> seqs;
    for (int32_t b = 0; b < setup.batch; ++b) {
      seqs.push_back({.q_begin = b * setup.q_len,
                      .q_len = setup.q_len,
                      .kv_len = setup.kv_len,
                      .pages = table.data() + static_cast<size_t>(b) * seq_pages});
    }
    data->plans.push_back(plan_latent(s, seqs, pool.size()));
  }
  data->workspace =
      Buffer::host(static_cast<size_t>(data->plans[0].workspace_bytes), "workspace").value();
  data->params = {.q = view(std::as_const(data->q), {n_tokens, s.heads, width}),
                  .out = view(data->out, {n_tokens, s.heads, s.latent}),
                  .kv = {.base = arena->data(),
                         .page_tokens = kPageTokens,
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
  const auto arena = std::make_shared<Buffer>(random_arena());
  for (const Setup& setup : kSetups) {
    const std::shared_ptr<Data> data = build(setup, arena, pool);
    cases.push_back(
        {.op = "latent",
         .shape = fmt::format("{} B={} q={} kv={} H={} {}+{} {} {}", setup.name, setup.batch,
                              setup.q_len, setup.kv_len, setup.shape.heads, setup.shape.latent,
                              setup.shape.rope, name(setup.dtype), name(setup.compute)),
         .roof = roof(data->plans[0], data->params),
         .bf16 = setup.compute == DType::bf16,
         .run = [&ops, &pool, data] {
           ops.latent(data->plans[data->next], data->params, pool);
           data->next = (data->next + 1) % data->plans.size();
         }});
  }
  return cases;
}

}  // namespace ashlar
