#include "cli/progress.h"

#include <unistd.h>

#include <cstdio>

#include "base/text.h"

namespace ashlar {
namespace {

constexpr auto kQuietFor = std::chrono::milliseconds(300);
constexpr auto kRedrawEvery = std::chrono::milliseconds(100);
constexpr int kWidth = 30;

}  // namespace

Progress::Progress(std::string label)
    : label_(std::move(label)),
      enabled_(::isatty(STDERR_FILENO) == 1),
      start_(std::chrono::steady_clock::now()),
      last_(start_) {}

Progress::~Progress() {
  if (drawn_) std::fputs("\r\x1b[K", stderr);
}

void Progress::update(int64_t done, int64_t total, const std::string& note) {
  const auto now = std::chrono::steady_clock::now();
  if (!enabled_ || total <= 0 || now - start_ < kQuietFor || now - last_ < kRedrawEvery) return;
  last_ = now;
  drawn_ = true;
  const double part = static_cast<double>(done) / static_cast<double>(total);
  const double elapsed = std::chrono::duration<double>(now - start_).count();
  const std::string left = part > 0 ? human_seconds(elapsed * (1 - part) / part) : "?";
  const auto filled = static_cast<size_t>(part * kWidth);
  const std::string bar = std::string(filled, '=') + std::string(kWidth - filled, ' ');
  std::fputs(
      fmt::format("\r{} [{}] {:3.0f} %  {} left  {}\x1b[K", label_, bar, 100 * part, left, note)
          .c_str(),
      stderr);
}

}  // namespace ashlar
