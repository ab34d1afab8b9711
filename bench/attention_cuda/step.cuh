#pragma once

// One case on the device: pages, tables, queries; its rows planned, run, timed and checked.

#include <random>

#include "bench/attention_cuda/cases.h"
#include "bench/attention_cuda/fill.cuh"
#include "kernels/attention/cuda/reference_testing.cuh"
#include "kernels/latent/cuda/row_testing.h"

namespace ashlar::bench {

// The memory that all cases' pages lie in: as large as in service, for a small one's share of the
// memory channels is a matter of luck. Filled anew when the type of its numbers changes.
class Arena {
 public:
  static constexpr int64_t kBytes = int64_t{8} << 30;

  std::byte* filled(DType dtype) {
    if (held_ != dtype) fill_normal(memory_, dtype, 1, is_f8(dtype) ? 2.0f : 1.0f);
    held_ = dtype;
    return memory_.get();
  }
  // Something else is about to be written among the numbers.
  void forget() { held_ = DType::i32; }

 private:
  cuda::DeviceBytes memory_{static_cast<size_t>(kBytes)};
  DType held_ = DType::i32;
};

struct Measured {
  double us = 0;
  double error = 0;  // of sampled rows, relative, against double; NaN where a row was not written
  int32_t n_blocks = 0;
};

class Step {
 public:
  Step(const Case& c, Arena& arena) : case_(c), need_(need_of(c)) {
    place_pages(arena);
    const AttnShape& s = c.layer.shape;
    const auto rows = static_cast<size_t>(n_tokens_) * static_cast<size_t>(s.heads);
    q_.emplace(rows * static_cast<size_t>(s.k_dim) * 2);
    out_.emplace(rows * static_cast<size_t>(s.v_dim) * 2);
    fill_normal(*q_, DType::bf16, 2, 1.0f);
    std::vector<float> sinks(static_cast<size_t>(s.heads));
    for (size_t i = 0; i < sinks.size(); ++i) sinks[i] = static_cast<float>(i % 7) - 2;
    sinks_.emplace(sinks);
    sample_rows();
    expected_ = cuda::reference_rows(s, params({}), seqs_, samples_);
  }

  const AttentionNeed& need() const { return need_; }
  const PagedView& kv() const { return kv_; }

  Measured measure(const CudaRow& row, int repetitions, bool clean) const {
    const CudaPlan plan = row.plan(kv_, seqs_, cuda::n_multiprocessors());
    const cuda::DeviceBytes workspace(static_cast<size_t>(plan.workspace_bytes));
    upload(plan, workspace.get(), nullptr);
    CHECK_CUDA(cudaMemset(out_->get(), 0xFF, out_->bytes()));
    const AttnParams p = params({workspace.get(), workspace.bytes()});
    row.run(plan, p, nullptr);
    CHECK_CUDA(cudaDeviceSynchronize());
    Measured measured{.error = error(), .n_blocks = plan.n_blocks};
    measured.us = cuda::median_us([&] { row.run(plan, p, nullptr); }, repetitions, clean);
    return measured;
  }

 private:
  static constexpr size_t kSamples = 512;

  void place_pages(Arena& arena) {
    const AttnShape& s = case_.layer.shape;
    const Storage& storage = case_.storage;
    const bool latent = case_.layer.form == AttentionForm::latent;
    kv_ = {.page_tokens = storage.page_tokens,
           .kv_heads = s.kv_heads,
           .k_dim = s.k_dim,
           .v_dim = latent ? 0 : s.v_dim,
           .dtype = storage.dtype,
           .k_scale = is_f8(storage.dtype) ? 0.5f : 1.0f,
           .v_scale = is_f8(storage.dtype) ? 0.25f : 1.0f};
    const int64_t rows = int64_t{s.kv_heads} * storage.page_tokens, size = size_of(storage.dtype);
    kv_.v_offset_bytes = rows * kv_.k_dim * size;
    int64_t bytes = rows * (kv_.k_dim + kv_.v_dim) * size;
    const int64_t n_scales = storage.token_scales ? rows * (latent ? 1 : 2) : 0;
    if (storage.token_scales) kv_.scales_offset_bytes = bytes;
    bytes += n_scales * int64_t{sizeof(float)} + storage.gap_tokens * kv_.k_dim * size;
    const int64_t granules = (bytes + kGranuleBytes - 1) / kGranuleBytes;
    const int64_t stride = granules * kGranuleBytes, n_places = Arena::kBytes / stride;
    kv_.base = arena.filled(storage.dtype);
    if (storage.token_scales) {
      arena.forget();
      fill_scales<<<1024, 256>>>(kv_.base + kv_.scales_offset_bytes, n_scales, stride, n_places,
                                 0.25f);
      CHECK_CUDA(cudaGetLastError());
    }
    std::vector<uint32_t> places(static_cast<size_t>(n_places));
    for (size_t i = 0; i < places.size(); ++i)
      places[i] = static_cast<uint32_t>(static_cast<int64_t>(i) * granules);
    if (!storage.in_order) std::shuffle(places.begin(), places.end(), std::mt19937(3));
    deal(places);
  }

  void deal(const std::vector<uint32_t>& places) {
    table_.emplace(places);
    size_t next = 0;
    for (const Batch& batch : case_.batch) {
      for (int32_t i = 0; i < batch.n; ++i) {
        seqs_.push_back({.q_begin = n_tokens_,
                         .q_len = batch.q_len,
                         .kv_len = batch.kv_len,
                         .pages = table_->as<uint32_t>() + next});
        next += static_cast<size_t>((batch.kv_len + kv_.page_tokens - 1) / kv_.page_tokens);
        n_tokens_ += batch.q_len;
      }
    }
    CHECK(next <= places.size(), "{}: {} pages, the arena has {}", case_.name, next, places.size());
  }

  void sample_rows() {
    std::mt19937 random(5);
    const auto below = [&](int32_t n) {
      return static_cast<int32_t>(random() % static_cast<uint32_t>(n));
    };
    for (size_t i = 0; i < kSamples; ++i) {
      const int32_t seq = below(static_cast<int32_t>(seqs_.size()));
      samples_.push_back({.seq = seq,
                          .token = below(seqs_[static_cast<size_t>(seq)].q_len),
                          .head = below(case_.layer.shape.heads)});
    }
  }

  AttnParams params(std::span<std::byte> workspace) const {
    const AttnShape& s = case_.layer.shape;
    return {.q = View(q_->get(), DType::bf16, {n_tokens_, s.heads, s.k_dim}),
            .out = View(out_->get(), DType::bf16, {n_tokens_, s.heads, s.v_dim}),
            .kv = kv_,
            .scale = 1.5f / std::sqrt(static_cast<float>(s.k_dim)),
            .sinks = case_.layer.sinks ? sinks_->as<float>() : nullptr,
            .workspace = workspace};
  }

  // A row nobody wrote is NaN, sampled or not.
  double error() const {
    const std::vector<Bf16> out = out_->read<Bf16>();
    double difference = 0, norm = 0;
    const AttnShape& s = case_.layer.shape;
    for (size_t i = 0; i < samples_.size(); ++i) {
      const AttnSeq& seq = seqs_[static_cast<size_t>(samples_[i].seq)];
      const int64_t row = int64_t{seq.q_begin + samples_[i].token} * s.heads + samples_[i].head;
      for (int64_t j = 0; j < s.v_dim; ++j) {
        const double expected =
            expected_[i * static_cast<size_t>(s.v_dim) + static_cast<size_t>(j)];
        const double delta = to_float(out[static_cast<size_t>(row * s.v_dim + j)]) - expected;
        difference += delta * delta, norm += expected * expected;
      }
    }
    for (size_t row = 0; row < out.size(); row += static_cast<size_t>(s.v_dim))
      difference += 0 * to_float(out[row]);
    return std::sqrt(difference / norm);
  }

  Case case_;
  AttentionNeed need_;
  PagedView kv_;
  std::vector<AttnSeq> seqs_;
  int32_t n_tokens_ = 0;
  std::vector<cuda::ReferenceRow> samples_;
  std::vector<float> expected_;
  std::optional<cuda::DeviceBytes> table_, q_, out_, sinks_;
};

}  // namespace ashlar::bench
