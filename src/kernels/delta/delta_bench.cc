#include <memory>

#include "kernels/bench.h"
#include "kernels/testing.h"
#include "tensor/buffer.h"

namespace ashlar {
namespace {

constexpr int64_t kKeyHeads = 16, kHeads = 32, kDim = 128, kTaps = 4;
constexpr int64_t kChannels = 2 * kKeyHeads * kDim + kHeads * kDim;
constexpr int64_t kConvBytes = (kTaps - 1) * kChannels * 2;
constexpr int64_t kStateBytes = kHeads * kDim * kDim * 4;
constexpr int64_t kPageBytes = kConvBytes + kStateBytes;
static_assert(kPageBytes % kGranuleBytes == 0);
// 128 states, far more than a last-level cache holds: a call takes the next ones, as the layers of
// a model do, and never finds the last call's.
constexpr int32_t kStates = 128;

struct Setup {
  const char* name;
  int32_t batch;
  int32_t q_len;
  int32_t n_slots = 0;
};

constexpr Setup kSetups[] = {
    {"decode", 1, 1}, {"decode", 8, 1}, {"decode", 32, 1}, {"verify", 1, 4, 4}, {"prefill", 1, 512},
};

struct Data {
  std::shared_ptr<Buffer> arena;
  std::vector<float> x, y, g, beta, out, weight;
  std::vector<uint32_t> pages;               // of all states
  std::vector<std::vector<StateSeq>> turns;  // per call, until the states have been round
  size_t next = 0;

  const std::vector<StateSeq>& turn() {
    next = (next + 1) % turns.size();
    return turns[next];
  }
};

std::shared_ptr<Data> build(const Setup& setup, const std::shared_ptr<Buffer>& arena) {
  auto data = std::make_shared<Data>();
  data->arena = arena;
  Random random(1);
  const int64_t n = int64_t{setup.batch} * setup.q_len;
  data->x = random.normal(n * kChannels);
  data->y = random.normal(n * kChannels);
  data->g = random.normal(n * kHeads);
  for (float& g : data->g) g = -0.1f * std::abs(g);
  data->beta = std::vector<float>(static_cast<size_t>(n * kHeads), 0.5f);
  data->out.resize(static_cast<size_t>(n * kHeads * kDim));
  data->weight = random.normal(kChannels * kTaps);
  for (int32_t i = 0; i < kStates; ++i) {
    data->pages.push_back(static_cast<uint32_t>(i * (kPageBytes / kGranuleBytes)));
  }
  const int32_t per_seq = 1 + setup.n_slots;
  for (int32_t at = 0; at + setup.batch * per_seq <= kStates; at += setup.batch * per_seq) {
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
  return data;
}

ConstView heads_view(const Data& data, int64_t column, int64_t heads) {
  const int64_t n = static_cast<int64_t>(data.y.size()) / kChannels;
  ConstView v = view(data.y, {n, kChannels}).columns(column, column + heads * kDim);
  v.shape = {n, heads, kDim};
  v.strides = {kChannels, kDim, 1};
  return v;
}

DeltaParams delta_params(Data& data) {
  const int64_t n = static_cast<int64_t>(data.y.size()) / kChannels;
  return {.q = heads_view(data, 0, kKeyHeads),
          .k = heads_view(data, kKeyHeads * kDim, kKeyHeads),
          .v = heads_view(data, 2 * kKeyHeads * kDim, kHeads),
          .g = view(std::as_const(data.g), {n, kHeads}),
          .beta = view(std::as_const(data.beta), {n, kHeads}),
          .out = view(data.out, {n, kHeads, kDim}),
          .scale = 0.088f,
          .state = {.base = data.arena->data(), .recurrent_offset_bytes = kConvBytes},
          .seqs = data.turns[0]};
}

CausalConvParams conv_params(Data& data) {
  const int64_t n = static_cast<int64_t>(data.x.size()) / kChannels;
  return {.x = view(std::as_const(data.x), {n, kChannels}),
          .weight = data.weight.data(),
          .y = view(data.y, {n, kChannels}),
          .state = {.base = data.arena->data(), .recurrent_offset_bytes = kConvBytes},
          .seqs = data.turns[0]};
}

// What the memory gives to anybody who reads and writes these states and computes nothing to speak
// of: the bound of decode, since the machine's roof is measured by reading alone.
void touch(Data& data, Pool& pool) {
  const std::vector<StateSeq>& seqs = data.turn();
  const StateView state{.base = data.arena->data(), .recurrent_offset_bytes = kConvBytes};
  pool.each(static_cast<int64_t>(seqs.size()) * kHeads, [&](int64_t task, int) {
    float* s = state.recurrent(seqs[static_cast<size_t>(task / kHeads)], 0);
    auto* words = reinterpret_cast<uint32_t*>(s + task % kHeads * kDim * kDim);
    for (int64_t i = 0; i < kDim * kDim; ++i) words[i] ^= 1;
  });
}

}  // namespace

std::vector<BenchCase> delta_bench(const Ops& ops, Pool& pool) {
  auto arena =
      std::make_shared<Buffer>(Buffer::host(size_t{kStates} * kPageBytes, "bench arena").value());
  for (const std::span<std::byte> all = arena->bytes(); std::byte & byte : all) byte = std::byte{0};
  std::vector<BenchCase> cases;
  for (const Setup& setup : kSetups) {
    const std::shared_ptr<Data> data = build(setup, arena);
    const std::string shape = fmt::format("{} B={} q={} H={} KH={} {}x{}", setup.name, setup.batch,
                                          setup.q_len, kHeads, kKeyHeads, kDim, kDim);
    if (setup.q_len == 1) {
      cases.push_back(
          {.op = "delta",
           .shape = fmt::format("bound of decode B={}: states read and written", setup.batch),
           .roof = {.bytes = 2.0 * kStateBytes * setup.batch},
           .run = [&pool, data] { touch(*data, pool); }});
    }
    cases.push_back({.op = "delta",
                     .shape = shape,
                     .roof = roof(delta_params(*data)),
                     .run = [&ops, &pool, data, p = delta_params(*data)]() mutable {
                       p.seqs = data->turn();
                       ops.delta(p, pool);
                     }});
    if (setup.n_slots > 0) continue;
    cases.push_back({.op = "conv",
                     .shape = fmt::format("{} B={} q={} C={} taps={}", setup.name, setup.batch,
                                          setup.q_len, kChannels, kTaps),
                     .roof = roof(conv_params(*data)),
                     .run = [&ops, &pool, data, p = conv_params(*data)]() mutable {
                       p.seqs = data->turn();
                       ops.causal_conv(p, pool);
                     }});
  }
  return cases;
}

}  // namespace ashlar
