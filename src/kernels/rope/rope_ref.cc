#include "kernels/rope/rope.h"

namespace ashlar {

void rope_ref(const RopeParams& p, Pool&) {
  const int64_t half = p.cos_sin.dim(1) / 2;
  for (int64_t t = 0; t < p.x.dim(0); ++t) {
    const float* cosines = p.cos_sin.row<float>(t);
    const float* sines = cosines + half;
    for (int64_t h = 0; h < p.x.dim(1); ++h) {
      float* head = p.x.row<float>(t) + h * p.x.stride(1) + p.offset;
      for (int64_t i = 0; i < half; ++i) {
        float* a = p.pairing == RopePairing::halves ? head + i : head + 2 * i;
        float* b = p.pairing == RopePairing::halves ? head + half + i : head + 2 * i + 1;
        const double a0 = *a, b0 = *b;
        *a = static_cast<float>(a0 * cosines[i] - b0 * sines[i]);
        *b = static_cast<float>(b0 * cosines[i] + a0 * sines[i]);
      }
    }
  }
}

Roof roof(const RopeParams& p) {
  const auto rows = static_cast<double>(p.x.dim(0));
  const auto width = static_cast<double>(p.cos_sin.dim(1));
  const double turned = rows * static_cast<double>(p.x.dim(1)) * width;
  return {.bytes = turned * 8 + rows * width * 4, .flops = turned * 3};
}

}  // namespace ashlar
