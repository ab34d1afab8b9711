#pragma once

// A progress bar on stderr, drawn only on a terminal and only for work that lasts.

#include <chrono>
#include <cstdint>
#include <string>

namespace ashlar {

class Progress {
 public:
  explicit Progress(std::string label);
  ~Progress();  // clears the line
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // Cheap: redraws at most ten times a second. `note` stands behind the bar.
  void update(int64_t done, int64_t total, const std::string& note = "");

 private:
  std::string label_;
  bool enabled_;
  bool drawn_ = false;
  std::chrono::steady_clock::time_point start_;
  std::chrono::steady_clock::time_point last_;
};

}  // namespace ashlar
