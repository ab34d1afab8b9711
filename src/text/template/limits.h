#pragma once

// What one rendering may cost. Templates come with checkpoints and their data with requests, so
// neither may hang the server or take its memory.

#include <cstdint>

namespace ashlar::text {

struct RenderLimits {
  uint64_t steps = 20'000'000;  // nodes evaluated, and items and bytes worked through
  uint64_t output_bytes = uint64_t{64} << 20;   // of the result, and of any captured part of it
  uint64_t memory_bytes = uint64_t{512} << 20;  // of all values made on the way
  int depth = 300;                              // of nested statements, expressions and macro calls
};

}  // namespace ashlar::text
