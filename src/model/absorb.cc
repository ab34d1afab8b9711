#include "model/absorb.h"

namespace ashlar {
namespace {

template <class T>
void transpose(const T* from, int64_t rows, int64_t columns, T* to) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) to[c * rows + r] = from[r * columns + c];
  }
}

}  // namespace

Result<AbsorbedKv> absorb(const LatentSpec& spec, const ConstView& kv_b) {
  const int64_t latent = spec.kv_lora;
  const int64_t head_rows = spec.nope_dim + spec.v_dim;
  const int64_t size = size_of(kv_b.dtype);
  CHECK(is_float(kv_b.dtype), "kv_b of {}", name(kv_b.dtype));
  AbsorbedKv out;
  TRY(out.memory, Buffer::host(static_cast<size_t>(spec.heads * spec.nope_dim * latent * size),
                               "absorbed keys"));
  for (int64_t h = 0; h < spec.heads; ++h) {
    const std::byte* from = kv_b.data + h * head_rows * latent * size;
    std::byte* to = out.memory.data() + h * spec.nope_dim * latent * size;
    if (size == 4) {
      transpose(reinterpret_cast<const float*>(from), spec.nope_dim, latent,
                reinterpret_cast<float*>(to));
    } else {
      transpose(reinterpret_cast<const uint16_t*>(from), spec.nope_dim, latent,
                reinterpret_cast<uint16_t*>(to));
    }
  }
  out.uk = ConstView(out.memory.data(), kv_b.dtype, {spec.heads, latent, spec.nope_dim});
  out.uv = ConstView(kv_b.data + spec.nope_dim * latent * size, kv_b.dtype,
                     {spec.heads, spec.v_dim, latent});
  out.uv.strides[0] = head_rows * latent;
  return out;
}

}  // namespace ashlar
