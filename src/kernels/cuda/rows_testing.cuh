#pragma once

// What the tests that walk the CUDA rows of the table of backends share: a case of either form on
// the device, what double says of it, and every row that takes it. Test code only.
//
// Whatever must not be read is NaN (gaps between pages, slots nobody sees, the workspace), entries
// of tables that must not be looked up are absurd.

#include <gtest/gtest.h>

#include <functional>

#include "kernels/attention/cuda/attention_cuda_testing.cuh"
#include "kernels/attention/cuda/reference_testing.cuh"
#include "kernels/latent/cuda/row_testing.h"

namespace ashlar {

constexpr int32_t kMostDecodeTokens = 8;  // of a sequence, in a step that rows of decode take

// Types of pages and queries that go together, and how far off an output may be, over all of it and
// in a row. Rounding it to bf16 costs 1.7e-3.
struct RowTypes {
  DType pages, q;
  double tolerance;
};
constexpr RowTypes kRowTypes[] = {
    {DType::bf16, DType::bf16, 4e-3},   {DType::f16, DType::f16, 6e-4},
    {DType::f8e4m3, DType::bf16, 3e-3}, {DType::f8e5m2, DType::bf16, 3e-3},
    {DType::f8e4m3, DType::f16, 6e-4},  {DType::f8e5m2, DType::f16, 6e-4}};
constexpr double kOfOneRow = 4;  // times the tolerance of all

struct RowCase {
  AttnCase c;  // latents: shape.v_dim is 0
  RowTypes types = kRowTypes[0];
  int32_t latent = 0;  // values of a latent, 0: K and V of their own

  int32_t out_width() const { return latent > 0 ? latent : c.shape.v_dim; }
  std::string text() const { return fmt::format("{} q {}", ashlar::text(c), name(types.q)); }
};

inline RowCase heads_case(const AttnShape& shape, std::vector<SeqLength> lengths,
                          const RowTypes& types, Random& random) {
  RowCase made{.c = random_case(shape, std::move(lengths), types.pages, random), .types = types};
  if (is_f8(types.pages)) made.c.k_scale = 0.02f, made.c.v_scale = 0.5f;
  return made;
}
inline RowCase latent_case(int32_t heads, std::vector<SeqLength> lengths, const RowTypes& types,
                           Random& random) {
  const AttnShape rows{.heads = heads, .k_dim = kLatentWidth + kLatentRope, .v_dim = 0};
  RowCase made{.c = random_case(rows, std::move(lengths), types.pages, random),
               .types = types,
               .latent = kLatentWidth};
  if (is_f8(types.pages)) made.c.k_scale = 0.37f;
  return made;
}
inline RowCase chunk_of(const RowCase& all, size_t i, int32_t begin, int32_t end) {
  RowCase part = all;
  part.c = chunk_of(all.c, i, begin, end);
  return part;
}

struct RowPlaces {
  int32_t page_tokens = 16;
  uint64_t seed = 7;
  int64_t bytes_before = 0;  // of the first page in its arena; a multiple of 256
};

class DeviceCase {
 public:
  DeviceCase(const RowCase& row_case, const RowPlaces& places)
      : case_(row_case),
        pages_(case_.c, places.page_tokens, places.seed, 16),
        arena_(static_cast<size_t>(places.bytes_before) + pages_.memory().size()),
        seqs_(case_.c, pages_, places.bytes_before),
        q_(to_half_bits(case_.c.q, case_.types.q)),
        sinks_(case_.c.sinks),
        kv_(pages_.view()) {
    arena_.write(pages_.memory(), static_cast<size_t>(places.bytes_before));
    kv_.base = arena_.get();
  }

  const RowCase& get() const { return case_; }
  const PagedView& kv() const { return kv_; }

  AttentionNeed need(StepForm step) const {
    const AttnCase& c = case_.c;
    return {.form = case_.latent > 0 ? AttentionForm::latent : AttentionForm::heads,
            .step = step,
            .heads = c.shape.heads,
            .kv_heads = c.shape.kv_heads,
            .k_dim = c.shape.k_dim,
            .v_dim = case_.out_width(),
            .window = c.shape.window,
            .sinks = !c.sinks.empty(),
            .softcap = c.softcap != 0,
            .causal = c.shape.causal,
            .query = case_.types.q,
            .pages = case_.types.pages,
            .token_scales = c.token_scales,
            .page_tokens = kv_.page_tokens};
  }

  std::vector<float> reference() const {
    std::vector<cuda::ReferenceRow> rows;
    for (size_t seq = 0; seq < seqs_.get().size(); ++seq) {
      for (int32_t token = 0; token < seqs_.get()[seq].q_len; ++token) {
        for (int32_t head = 0; head < case_.c.shape.heads; ++head)
          rows.push_back({.seq = static_cast<int32_t>(seq), .token = token, .head = head});
      }
    }
    if (rows.empty()) return {};
    return cuda::reference_rows(shape_of(need(StepForm::prefill)), params(nullptr, {}), seqs_.get(),
                                rows);
  }

  // Two layers of one step, which must agree; out is poisoned before each.
  std::vector<float> run(const CudaRow& row, int n_sms = 132) const {
    constexpr size_t kGuard = 64;
    const auto n = static_cast<size_t>(case_.c.n_tokens() * case_.c.shape.heads) *
                   static_cast<size_t>(case_.out_width());
    const cuda::DeviceBytes out(2 * (n + kGuard));
    const CudaPlan plan = row.plan(kv_, seqs_.get(), n_sms);
    const cuda::DeviceBytes workspace(static_cast<size_t>(plan.workspace_bytes));
    upload(plan, workspace.get(), nullptr);
    std::vector<uint16_t> first;
    for (int layer = 0; layer < 2; ++layer) {
      CHECK_CUDA(cudaMemset(out.get(), 0xFF, out.bytes()));
      row.run(plan, params(out.get(), {workspace.get(), workspace.bytes()}), nullptr);
      CHECK_CUDA(cudaDeviceSynchronize());
      std::vector<uint16_t> bits = out.read<uint16_t>();
      if (layer == 0)
        first = std::move(bits);
      else
        EXPECT_TRUE(bits == first) << "a second layer differs: " << row.name();
    }
    for (size_t i = n; i < first.size(); ++i) CHECK(first[i] == 0xFFFF, "wrote behind out");
    first.resize(n);
    return from_half_bits(first, case_.types.q);
  }

 private:
  AttnParams params(std::byte* out, std::span<std::byte> workspace) const {
    const AttnCase& c = case_.c;
    return {.q = View(q_.get(), case_.types.q, {c.n_tokens(), c.shape.heads, c.shape.k_dim}),
            .out = View(out, case_.types.q, {c.n_tokens(), c.shape.heads, case_.out_width()}),
            .kv = kv_,
            .scale = c.scale,
            .softcap = c.softcap,
            .sinks = c.sinks.empty() ? nullptr : sinks_.as<float>(),
            .workspace = workspace};
  }

  RowCase case_;
  Pages pages_;
  cuda::DeviceBytes arena_;
  DeviceSequences seqs_;
  cuda::DeviceBytes q_, sinks_;
  PagedView kv_;
};

inline Device this_card() {
  cudaDeviceProp device{};
  CHECK_CUDA(cudaGetDeviceProperties(&device, 0));
  return {.kind = Device::Kind::cuda, .sm = device.major * 10 + device.minor};
}

// Calls `visit` for every row of the table that takes the case on this card, as decode (where no
// sequence has more than a few tokens) and as prefill.
inline void each_row(const DeviceCase& c, const std::function<void(const CudaRow&)>& visit) {
  const Device card = this_card();
  int32_t most_tokens = 0;
  for (const SeqLength& length : c.get().c.lengths)
    most_tokens = std::max(most_tokens, length.q_len);
  for (const AttentionBackend& row : attention_backends()) {
    for (const StepForm step : {StepForm::decode, StepForm::prefill}) {
      const AttentionNeed need = c.need(step);
      if (step == StepForm::decode && most_tokens > kMostDecodeTokens) continue;
      // Rows over latents do the same in both.
      if (step == StepForm::prefill && c.get().latent > 0 && most_tokens <= kMostDecodeTokens)
        continue;
      if (!refusal(row, card, need).empty()) continue;
      const CudaRow taken(row, need);
      if (taken.takes(c.kv())) visit(taken);
    }
  }
}

// The largest relative error of a row of `width`; rows much smaller than most count as those.
inline double worst_row_error(const std::vector<float>& actual, const std::vector<float>& expected,
                              int32_t width) {
  constexpr double kSmall = 1e-2;
  const auto n = static_cast<size_t>(width);
  double all = 0;
  for (const float value : expected) all += static_cast<double>(value) * value;
  const double typical = all / static_cast<double>(std::max<size_t>(expected.size() / n, 1));
  double worst = 0;
  for (size_t row = 0; row + n <= expected.size(); row += n) {
    double difference = 0, norm = 0;
    for (size_t i = row; i < row + n; ++i) {
      const double delta = static_cast<double>(actual[i]) - expected[i];
      difference += delta * delta, norm += static_cast<double>(expected[i]) * expected[i];
    }
    const double error = std::sqrt(difference / std::max(norm, kSmall * typical));
    if (std::isnan(error)) return error;
    worst = std::max(worst, error);
  }
  return worst;
}

// Every row that takes the case, in pages of each size, against double.
inline void expect_rows_match(const RowCase& c, std::initializer_list<int32_t> page_tokens) {
  std::vector<float> expected;
  for (const int32_t tokens : page_tokens) {
    const DeviceCase on_device(c, {.page_tokens = tokens});
    if (expected.empty()) expected = on_device.reference();
    each_row(on_device, [&](const CudaRow& row) {
      const std::vector<float> actual = on_device.run(row);
      const auto text = [&] {
        return fmt::format("{}, pages of {}, {}", row.name(), tokens, c.text());
      };
      EXPECT_LE(relative_error(actual, expected), c.types.tolerance) << text();
      EXPECT_LE(worst_row_error(actual, expected, c.out_width()), kOfOneRow * c.types.tolerance)
          << text();
    });
  }
}

class CudaRows : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!cuda::has_device()) GTEST_SKIP() << "no GPU here";
  }
};

}  // namespace ashlar
