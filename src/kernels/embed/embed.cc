#include "kernels/embed/embed.h"

namespace ashlar {
namespace {

template <class T>
void widen_row(const T* row, float multiplier, int64_t width, float* y) {
  for (int64_t i = 0; i < width; ++i) y[i] = to_float(row[i]) * multiplier;
}

}  // namespace

void embed(const EmbedParams& p, Pool& pool) {
  const int64_t width = p.table.dim(1);
  pool.each(static_cast<int64_t>(p.ids.size()), [&](int64_t t, int) {
    const int64_t id = p.ids[static_cast<size_t>(t)];
    CHECK(0 <= id && id < p.table.dim(0), "token id {} of a table of {}", id, p.table.dim(0));
    float* y = p.y.row<float>(t);
    switch (p.table.dtype) {
      case DType::f32: return widen_row(p.table.row<float>(id), p.multiplier, width, y);
      case DType::bf16: return widen_row(p.table.row<Bf16>(id), p.multiplier, width, y);
      case DType::f16: return widen_row(p.table.row<F16>(id), p.multiplier, width, y);
      default: CHECK(false, "embedding table of {}", name(p.table.dtype));
    }
  });
}

}  // namespace ashlar
