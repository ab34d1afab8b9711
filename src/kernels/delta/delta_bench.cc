#include <memory>

#include "base/checked.h"
#include "kernels/bench.h"
#include "kernels/testing.h"
#include "tensor/buffer.h"

namespace ashlar {
namespace {

constexpr int64_t kTaps = 4;
// Far more than a last-level cache holds: a call takes the next states, as the layers of a model
// do, and never finds the last call's.
constexpr int64_t kArenaBytes = int64_t{275} << 20;

struct Setup {
  const char* name;
  int32_t batch;
  int32_t q_len;
  int32_t n_slots = 0;
  int64_t key_heads = 16, heads = 32;
  int64_t key_dim = 128, value_dim = 128;

  int64_t rows() const { return int64_t{batch} * q_len; }
  int64_t channels() const { return 2 * key_heads * key_dim + heads * value_dim; }
  int64_t conv_bytes() const { return (kTaps - 1) * channels() * 2; }
  int64_t state_bytes() const { return heads * value_dim * key_dim * 4; }
  int64_t page_bytes() const { return round_up(conv_bytes() + state_bytes(), kGranuleBytes); }
};

constexpr Setup kSetups[] = {
    {"decode", 1, 1},
    {"decode", 8, 1},
    {"decode", 32, 1},
    {"verify", 1, 4, 4},
    {"prefill", 1, 512},
    {.name = "decode", .batch = 8, .q_len = 1, .key_dim = 64, .value_dim = 64},
    {.name = "prefill", .batch = 1, .q_len = 512, .key_dim = 64, .value_dim = 64},
    {.name = "decode", .batch = 8, .q_len = 1, .key_dim = 32, .value_dim = 32},
    {.name = "prefill", .batch = 1, .q_len = 512, .key_dim = 32, .value_dim = 32},
    // Dims that fill no vector.
    {.name = "decode", .batch = 8, .q_len = 1, .key_dim = 120, .value_dim = 121},
    {.name = "prefill", .batch = 1, .q_len = 512, .key_dim = 120, .value_dim = 121},
    {"decode", 8, 1, 0, 2, 6, 16, 20},
    {"prefill", 1, 512, 0, 2, 6, 16, 20},
};

struct Data {
  std::shared_ptr<Buffer> arena;
  Setup setup;
  std::vector<float> x, y, g, beta, out, weight;
  std::vector<uint32_t> pages;               // of all states
  std::vector<std::vector<StateSeq>> turns;  // per call, until the states have been round
  size_t next = 0;

  const std::vector<StateSeq>& turn() {
    next = (next + 1) % turns.size();
    return turns[next];
  }
};

// Turns through all the states that fit the arena.
void build_turns(const Setup& setup, Data* data) {
  const int64_t n_states = kArenaBytes / setup.page_bytes();
  for (int64_t i = 0; i < n_states; ++i) {
    data->pages.push_back(static_cast<uint32_t>(i * (setup.page_bytes() / kGranuleBytes)));
  }
  const int64_t per_seq = 1 + setup.n_slots;
  for (int64_t at = 0; at + setup.batch * per_seq <= n_states; at += setup.batch * per_seq) {
    std::vector<StateSeq> seqs;
    for (int32_t b = 0; b < setup.batch; ++b) {
      seqs.push_back({.q_begin = b * setup.q_len,
                      .q_len = setup.q_len,
                      .position = 1000,
                      .n_slots = setup.n_slots,
                      .pages = data->pages.data() + at + b * per_seq});
    }
    data->turns.push_back(std::move(seqs));
  }
}

std::shared_ptr<Data> build(const Setup& setup, const std::shared_ptr<Buffer>& arena) {
  auto data = std::make_shared<Data>();
  data->arena = arena;
  data->setup = setup;
  Random random(1);
  data->x = random.normal(setup.rows() * setup.channels());
  data->y = random.normal(setup.rows() * setup.channels());
  data->g = random.normal(setup.rows() * setup.heads);
  for (float& g : data->g) g = -0.1f * std::abs(g);
  data->beta = std::vector<float>(data->g.size(), 0.5f);
  data->out.resize(static_cast<size_t>(setup.rows() * setup.heads * setup.value_dim));
  data->weight = random.normal(setup.channels() * kTaps);
  build_turns(setup, data.get());
  return data;
}

ConstView heads_view(const Data& data, int64_t column, int64_t heads, int64_t dim) {
  const int64_t n = data.setup.rows(), channels = data.setup.channels();
  ConstView v = view(data.y, {n, channels}).columns(column, column + heads * dim);
  v.shape = {n, heads, dim};
  v.strides = {channels, dim, 1};
  return v;
}

StateView state_of(const Data& data) {
  return {.base = data.arena->data(), .recurrent_offset_bytes = data.setup.conv_bytes()};
}

DeltaParams delta_params(Data& data) {
  const Setup& s = data.setup;
  const int64_t keys = s.key_heads * s.key_dim;
  return {.q = heads_view(data, 0, s.key_heads, s.key_dim),
          .k = heads_view(data, keys, s.key_heads, s.key_dim),
          .v = heads_view(data, 2 * keys, s.heads, s.value_dim),
          .g = view(std::as_const(data.g), {s.rows(), s.heads}),
          .beta = view(std::as_const(data.beta), {s.rows(), s.heads}),
          .out = view(data.out, {s.rows(), s.heads, s.value_dim}),
          .scale = 0.088f,
          .state = state_of(data),
          .seqs = data.turns[0]};
}

CausalConvParams conv_params(Data& data) {
  const Shape shape = {data.setup.rows(), data.setup.channels()};
  return {.x = view(std::as_const(data.x), shape),
          .weight = data.weight.data(),
          .y = view(data.y, shape),
          .state = state_of(data),
          .seqs = data.turns[0]};
}

// What the memory gives to anybody who reads and writes these states and computes nothing to speak
// of: the bound of decode, since the machine's roof is measured by reading alone.
void touch(Data& data, Pool& pool) {
  const std::vector<StateSeq>& seqs = data.turn();
  const int64_t heads = data.setup.heads, size = data.setup.value_dim * data.setup.key_dim;
  const StateView state = state_of(data);
  pool.each(static_cast<int64_t>(seqs.size()) * heads, [&](int64_t task, int) {
    float* s = state.recurrent(seqs[static_cast<size_t>(task / heads)], 0);
    auto* words = reinterpret_cast<uint32_t*>(s + task % heads * size);
    for (int64_t i = 0; i < size; ++i) words[i] ^= 1;
  });
}

std::vector<BenchCase> cases_of(const Setup& s, const std::shared_ptr<Data>& data, const Ops& ops,
                                Pool& pool) {
  const std::string dims =
      fmt::format("H={} KH={} {}x{}", s.heads, s.key_heads, s.value_dim, s.key_dim);
  const std::string step = fmt::format("{} B={} q={}", s.name, s.batch, s.q_len);
  std::vector<BenchCase> cases;
  if (s.q_len == 1) {
    cases.push_back({.op = "delta",
                     .shape = fmt::format("bound of decode B={} {}", s.batch, dims),
                     .roof = {.bytes = 2.0 * static_cast<double>(s.state_bytes() * s.batch)},
                     .run = [&pool, data] { touch(*data, pool); }});
  }
  cases.push_back({.op = "delta",
                   .shape = fmt::format("{} {}", step, dims),
                   .roof = roof(delta_params(*data)),
                   .run = [&ops, &pool, data, p = delta_params(*data)]() mutable {
                     p.seqs = data->turn();
                     ops.delta(p, pool);
                   }});
  if (s.n_slots > 0) return cases;
  cases.push_back({.op = "conv",
                   .shape = fmt::format("{} C={} taps={}", step, s.channels(), kTaps),
                   .roof = roof(conv_params(*data)),
                   .run = [&ops, &pool, data, p = conv_params(*data)]() mutable {
                     p.seqs = data->turn();
                     ops.causal_conv(p, pool);
                   }});
  return cases;
}

}  // namespace

std::vector<BenchCase> delta_bench(const Ops& ops, Pool& pool) {
  auto arena = std::make_shared<Buffer>(Buffer::host(kArenaBytes, "bench arena").value());
  for (const std::span<std::byte> all = arena->bytes(); std::byte & byte : all) byte = std::byte{0};
  std::vector<BenchCase> cases;
  for (const Setup& setup : kSetups) {
    for (BenchCase& one : cases_of(setup, build(setup, arena), ops, pool)) {
      cases.push_back(std::move(one));
    }
  }
  return cases;
}

}  // namespace ashlar
