#include "kernels/machine_roof.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "tensor/buffer.h"

namespace ashlar {
namespace {

constexpr double kSeconds = 0.2;
constexpr int64_t kReadBytes = int64_t{512} << 20;
constexpr int64_t kLeastReadBytes = int64_t{64} << 20;
constexpr int64_t kSteps = 200000;  // about 1 ms of arithmetic

double now() {
  const auto time = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double>(time).count();
}

// The best of repeated passes, in work per second; a pass returns the work it did.
template <class Pass>
double best_rate(Pass&& pass) {
  double best = 0;
  const double end = now() + kSeconds;
  for (int passes = 0; passes < 3 || now() < end; ++passes) {
    const double start = now();
    const double work = pass();
    best = std::max(best, work / (now() - start));
  }
  return best;
}

Buffer read_buffer() {
  for (int64_t bytes = kReadBytes; bytes >= kLeastReadBytes; bytes /= 2) {
    auto buffer = Buffer::host(static_cast<size_t>(bytes), "bandwidth measurement");
    if (buffer) return std::move(*buffer);
  }
  CHECK(false, "no {} bytes to measure bandwidth with", kLeastReadBytes);
  return {};
}

double read_rate(Isa isa, Pool& pool) {
  const Buffer buffer = read_buffer();
  const auto n_bytes = static_cast<int64_t>(buffer.bytes().size());
  const int64_t part = n_bytes / pool.size() / 4096 * 4096;
  // Written by the threads that read it, and not zero: untouched pages are one page.
  pool.each(pool.size(), [&](int64_t task, int) {
    std::memset(buffer.data() + task * part, 1, static_cast<size_t>(part));
  });
  std::vector<uint64_t> results(static_cast<size_t>(pool.size()));
  return best_rate([&] {
    pool.each(pool.size(), [&](int64_t task, int) {
      results[static_cast<size_t>(task)] = roof_read(isa, buffer.data() + task * part, part);
    });
    return static_cast<double>(part * pool.size());
  });
}

template <class Loop>
double flops_rate(Pool& pool, Loop&& loop) {
  std::vector<RoofFlops> results(static_cast<size_t>(pool.size()));
  return best_rate([&] {
    pool.each(pool.size(),
              [&](int64_t task, int) { results[static_cast<size_t>(task)] = loop(kSteps); });
    return results[0].flops * static_cast<double>(pool.size());
  });
}

}  // namespace

MachineRoof measure_machine_roof(Isa isa, Pool& pool) {
  MachineRoof roof;
  roof.read_bytes_per_s = read_rate(isa, pool);
  roof.f32_flops_per_s = flops_rate(pool, [&](int64_t n) { return roof_fma(isa, n); });
  roof.bf16_flops_per_s =
      isa == Isa::avx512_bf16 ? flops_rate(pool, roof_bf16_dot) : roof.f32_flops_per_s;
  return roof;
}

}  // namespace ashlar
